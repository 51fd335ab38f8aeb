"""Whether Prembly, asked to confirm an event, contradicted it and has not confirmed it since:
nobody should run a hook for one without having looked. And which events somebody must look at."""

from typing import Any

from peewee import SQL, ModelSelect, fn

from premblyd.features.asking.tables import Awaited, Inquiry
from premblyd.prembly.payload import Outcome
from premblyd.record import queries
from premblyd.record.queries import FEW, By
from premblyd.store.engine import Database
from premblyd.store.states import InquiryResult, Purpose
from premblyd.store.tables import IS_DOUBTED, Delivery, Event, OperatorAction

DISMISSED = "dismiss"  # what the record calls it
# Somebody has looked at an event, and it needs nobody any more.
IS_DISMISSED = fn.EXISTS(
    OperatorAction.select(SQL("1")).where(
        OperatorAction.event_id == Event.id, OperatorAction.action == DISMISSED
    )
)
# As text, so that SQLite sees that the index has these rows.
_IS_CONTRADICTED = (Inquiry.result == SQL("'contradicted'")) & (Inquiry.purpose == Purpose.CONFIRM)
_BY_RESULT = "inquiry_contradicted"


def contradicted_ids() -> "ModelSelect[Any]":
    """Return the query of the events' numbers."""
    return Inquiry.select(Inquiry.event).from_(By(Inquiry, _BY_RESULT)).where(_still())


def count_contradicted(database: Database, since_ms: int) -> int:
    """Return how many events Prembly contradicted since a time, and has not confirmed since."""
    query = Inquiry.select(fn.COUNT(Inquiry.event.distinct())).from_(By(Inquiry, _BY_RESULT))
    return int(queries.value(database, query.where(_still(), Inquiry.at_ms >= since_ms)))


def _still() -> Any:
    later = Delivery.alias("later")
    confirmed = later.select(SQL("1")).where(
        later.event == Inquiry.event, later.confirmed_at_ms >= Inquiry.at_ms
    )
    return _IS_CONTRADICTED & ~fn.EXISTS(confirmed)


def undismissed_ids(database: Database) -> dict[str, list[int]]:
    """Return the events that need somebody until he has looked at them, by the kind of trouble; of
    each at most FEW."""
    of_kind: dict[str, ModelSelect[Any]] = {
        "doubted": Event.select(Event.id).where(
            IS_DOUBTED, ~IS_DISMISSED, ~(WAS_ANSWERED | _is_reference_answered()), ~IS_DIFFERING
        ),
        "differs": Event.select(Event.id).where(
            Event.id.in_(
                Inquiry.select(Inquiry.event)
                .from_(By(Inquiry, _BY_RESULT))
                .where(Inquiry.result == SQL("'contradicted'"), Inquiry.purpose != Purpose.CONFIRM)
            ),
            IS_DOUBTED,
            ~IS_DISMISSED,
            ~_is_verified_since(),
        ),
        "given_up": Awaited.select(Awaited.event)
        .join(Event)
        .where(
            Awaited.state == SQL("'given_up'"),  # as the index has it, which is of few rows
            Awaited.answered_at_ms.is_null(),
            Awaited.ask_count > 0,
            ~IS_DISMISSED,
        ),
    }
    return {
        kind: [number for (number,) in queries.tuples(database, query.limit(FEW))]
        for kind, query in of_kind.items()
    }


def _was_asked(condition: Any) -> Any:
    """Return the condition that Prembly was asked what became of an event, with such an answer."""
    return fn.EXISTS(
        Inquiry.select(Inquiry.id).where(
            Inquiry.event == Event.id, Inquiry.purpose != Purpose.CONFIRM, condition
        )
    )


NO_ANSWER = (InquiryResult.REFUSED, InquiryResult.UNAVAILABLE)
WAS_ANSWERED = _was_asked(Inquiry.result.not_in(NO_ANSWER))
IS_DIFFERING = _was_asked(Inquiry.result == InquiryResult.CONTRADICTED)


def _is_reference_answered() -> Any:
    """Return the condition that Prembly said something about an event's reference."""
    about_reference = Awaited.select(SQL("1")).where(
        Awaited.reference == Event.reference, Awaited.answered_at_ms.is_null(False)
    )
    return fn.EXISTS(about_reference)


def _is_verified_since() -> Any:
    other = Event.alias("other")
    verified = other.select(SQL("1")).where(
        other.reference == Event.reference, other.outcome == Outcome.VERIFIED
    )
    return fn.EXISTS(verified)
