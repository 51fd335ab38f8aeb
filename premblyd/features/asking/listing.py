"""What Prembly's answers add to lists: which events it contradicted, and `unsettled`."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from premblyd.features.asking.criteria import contradicted_ids
from premblyd.features.asking.tables import Awaited, Inquiry
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
from premblyd.record.queries import Row, row_of
from premblyd.store.columns import Seen
from premblyd.store.engine import Database
from premblyd.store.states import AwaitedState
from premblyd.store.tables import Delivery, Event


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


def _said(event: Any) -> str | None:
    return f"contradicted (said {event.outcome})" if event.contradicted else None


LISTS = (Listed(chosen=AwaitedFilter, table=Awaited, row=AwaitedRow),)
COLUMNS = (AddedColumn(name="contradicted", find=_contradicted, otherwise=False),)
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
        left="Prembly contradicted their events: {}. `premblyd events --contradicted` lists them;"
        " with --contradicted they are replayed too.",
        why_not="Prembly contradicted it",
        refusal="Prembly contradicted this event, so nothing was queued. Compare both first. To run"
        " the hook anyway, tick the box beside Replay.",
        option="Include events that Prembly contradicted: the hook may run for a forged one.",
    ),
)
