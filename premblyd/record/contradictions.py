"""Events that Prembly contradicted when it was asked to confirm them, and has not confirmed since:
nobody should run a hook for one without having looked."""

from typing import Any

from peewee import SQL, Database, ModelSelect, fn

from premblyd.model.tables import Delivery, Event, Inquiry, Purpose
from premblyd.record import fetching
from premblyd.record.leafing import By

# As text, so that SQLite sees that the index has these rows.
_IS_CONTRADICTED = (Inquiry.result == SQL("'contradicted'")) & (Inquiry.purpose == Purpose.CONFIRM)
INDEX = "inquiry_contradicted"


def event_ids() -> "ModelSelect[Any]":
    """Return the query of the events' numbers."""
    return Inquiry.select(Inquiry.event).from_(By(Inquiry, INDEX)).where(_still())


def count(database: Database, since_ms: int) -> int:
    """Return how many events Prembly contradicted since a time, and has not confirmed since."""
    query = Inquiry.select(fn.COUNT(Inquiry.event.distinct())).from_(By(Inquiry, INDEX))
    [(count,)] = fetching.tuples(database, query.where(_still(), Inquiry.at_ms >= since_ms))
    return int(count)


def of_event(database: Database, event_id: int) -> bool:
    """Return whether an event is one of these."""
    query = event_ids().where(Inquiry.event == event_id).limit(1)
    return bool(fetching.tuples(database, query))


def is_contradicted(event: Any = Event.id) -> Any:
    """Return the column that says of a row whether its event is one of these."""
    of_event = (
        Inquiry.select(SQL("1")).from_(By(Inquiry, INDEX)).where(_still(), Inquiry.event == event)
    )
    return fn.EXISTS(of_event).alias("contradicted")


def _still() -> Any:
    later = Delivery.alias("later")
    confirmed = later.select(SQL("1")).where(
        later.event == Inquiry.event, later.confirmed_at_ms >= Inquiry.at_ms
    )
    return _IS_CONTRADICTED & ~fn.EXISTS(confirmed)
