"""Copies of the record: one that is made, those that lie beside it, and what is sought in them."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """By what a person is found in a copy of the record."""

    keys: frozenset[str]  # of events
    user_refs: frozenset[str] = field(repr=False)
    references: frozenset[str] = field(repr=False)
    sessions: frozenset[str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherCopy:
    """A copy of the record beside it. `events`: how many of what is sought it has; None: it can't
    be looked into, because of this `problem`."""

    path: Path
    events: int | None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """How far a copy of a database is. `total_bytes` None: that is not known before the end."""

    bytes: int
    total_bytes: int | None
    is_checking: bool = False  # whether the database is whole
