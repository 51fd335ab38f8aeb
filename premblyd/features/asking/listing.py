"""What Prembly's answers add to lists: which events it contradicted and has not confirmed since, so
that nobody should run a hook for one without having looked; and `unsettled`."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from peewee import SQL, ModelSelect, fn

from premblyd.features.asking.states import AwaitedState, InquiryResult, Purpose
from premblyd.features.asking.tables import Awaited, Confirmation, Inquiry
from premblyd.prembly.payload import Outcome
from premblyd.record import queries
from premblyd.record.listing import (
    AddedColumn,
    AddedFilter,
    Chosen,
    Listed,
    Veto,
    by,
    equals,
    flag,
    since,
    time,
    where,
    words,
)
from premblyd.record.queries import FEW, By, Row, row_of
from premblyd.store.columns import Seen
from premblyd.store.engine import Database
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
    confirmed = (
        Confirmation.select(SQL("1"))
        .join(later, on=(Confirmation.delivery == later.id))
        .where(later.event == Inquiry.event, Confirmation.at_ms >= Inquiry.at_ms)
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


@row_of(Inquiry, Seen.LISTS)
class InquiryRow(Row):
    """A question to Prembly, and its result."""


@row_of(Awaited, Seen.LISTS)
class AwaitedRow(Row):
    """A verification without a result, and what Prembly has answered about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedFilter(Chosen):
    """Which of what was awaited."""

    state: str | None = by(
        equals(Awaited.state), "", "Only this state.", choices=words(AwaitedState)
    )
    reference: str | None = by(
        equals(Awaited.reference, "awaited_reference"), "", "Only with this reference."
    )
    since_ms: int | None = time(since(Awaited.created_at_ms), "", "Only those that began since.")


def _contradicted(database: Database, event_ids: Collection[int]) -> dict[int, bool]:
    """Return which of these events Prembly contradicted."""
    query = contradicted_ids().where(Inquiry.event.in_(list(event_ids)))
    return {event_id: True for (event_id,) in queries.tuples(database, query)}


def _confirmed(database: Database, ids: Collection[int]) -> dict[int, Any]:
    """Return when these deliveries were confirmed."""
    query = Confirmation.select(Confirmation.delivery, Confirmation.at_ms)
    return dict(queries.tuples(database, query.where(Confirmation.delivery.in_(list(ids)))))


def _said(event: Any) -> str | None:
    return f"contradicted (said {event.outcome})" if event.contradicted else None


LISTS = (Listed(chosen=AwaitedFilter, table=Awaited, row=AwaitedRow),)
COLUMNS = (
    AddedColumn(name="contradicted", find=_contradicted, otherwise=False),
    AddedColumn("confirmed_at_ms", _confirmed, of_deliveries=True),
)
INSTEAD = (("outcome", _said),)
FILTERS = (
    AddedFilter(
        "EventFilter",
        "contradicted",
        flag(
            where(lambda _: Event.id.in_(contradicted_ids()), is_of_ids=True),
            "Contradicted",
            "Only those that Prembly contradicted when asked to confirm.",
        ),
    ),
    AddedFilter(
        "DeliveryFilter",
        "contradicted",
        flag(
            where(lambda _: Delivery.event.in_(contradicted_ids()), index="delivery_event"),
            "Contradicted",
            "Only of events that Prembly contradicted.",
        ),
    ),
)
VETOES = (
    Veto(
        name="contradicted",
        find=_contradicted,
        why="Prembly contradicted it",
        option="Include events that Prembly contradicted: the hook may run for a forged one.",
    ),
)
