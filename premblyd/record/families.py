"""What features measure: metrics that Prometheus reads of the record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Family:
    """A metric by its name, as Prometheus has it, and its values by their labels, or its one value.
    No label is what a sender chose."""

    name: str
    help: str
    values: Mapping[Any, float] | float
    labels: tuple[str, ...] = ()
    is_counter: bool = False
