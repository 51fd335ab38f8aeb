"""When the time of an event is over: which class of it goes, by the periods of `retention`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from peewee import fn

from premblyd.config.retention import Retention
from premblyd.model.keeptables import Lacks, Removed
from premblyd.model.tables import Event

# In which order they are removed: so nothing is emptied that goes as a whole.
STRONGEST_FIRST = (Removed.RECORD, Removed.IDENTITY, Removed.BODY)
OF_PERSONS = (Removed.IDENTITY, Removed.RECORD)
# What an event lacks of which the class is gone already.
DONE: Mapping[Removed, tuple[str, ...]] = {
    Removed.BODY: (Lacks.BODY, Lacks.IDENTITY, Lacks.ERASED),
    Removed.IDENTITY: (Lacks.IDENTITY, Lacks.ERASED),
    Removed.RECORD: (),
}


class Aged(NamedTuple):
    """Of an event: what decides whether its time is over, and how many bytes its body has. Its
    columns in a statement are OF_EVENT."""

    id: int
    received_at_ms: int
    lacks: str | None
    body_bytes: int


OF_EVENT = (
    Event.id,
    Event.received_at_ms,
    Event.lacks,
    fn.LENGTH(Event.body),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Useless:
    """A class whose period changes nothing, as a later one takes it before, or at the same time."""

    removed: Removed
    by: Removed


def periods(retention: Retention) -> dict[Removed, int]:
    """Return the classes that are removed, each with its period in milliseconds."""
    found = {removed: getattr(retention, f"{removed}_ms") for removed in Removed}
    return {removed: period for removed, period in found.items() if period is not None}


def unset(retention: Retention) -> list[Removed]:
    """Return the classes that are kept for ever: neither they nor a later one have a period."""
    found = periods(retention)
    return [each for each in Removed if not found.keys() & {each, *_later(each)}]


def useless(retention: Retention) -> list[Useless]:
    """Return the classes whose period changes nothing."""
    found = periods(retention)
    return [
        Useless(removed=each, by=by)
        for each, period in found.items()
        if (by := next((by for by in _later(each) if found.get(by, period + 1) <= period), None))
    ]


def _later(removed: Removed) -> tuple[Removed, ...]:
    if removed not in STRONGEST_FIRST:
        return ()
    return tuple(reversed(STRONGEST_FIRST[: STRONGEST_FIRST.index(removed)]))
