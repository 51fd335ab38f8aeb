"""What features measure: metrics that Prometheus reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Family:
    """A metric of the record by its name, as Prometheus has it, and its values by their labels, or
    its one value. No label is what a sender chose."""

    name: str
    help: str
    values: Mapping[Any, float] | float
    labels: tuple[str, ...] = ()
    is_counter: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """A metric that counts an event of the log, by some of its fields. All `values` that these can
    have are there from the start: of a count that begins with its first 1, nobody can tell the
    increase."""

    name: str
    help: str
    event: str
    fields: tuple[str, ...]
    values: Sequence[tuple[str, ...]]
