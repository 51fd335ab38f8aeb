"""What lists and replays say of events of which something was deleted."""

from collections.abc import Collection
from typing import Any

from premblyd.queue.recovery import BODY_GONE, ERASED
from premblyd.record import queries
from premblyd.record.listing import Veto
from premblyd.store.engine import Database
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Event

NAMELESS = {RemovedParts.IDENTITY: "(removed)", RemovedParts.ERASED: "(erased)"}


def _nameless(event: Any) -> str | None:
    return None if event.reference else NAMELESS.get(event.removed_parts)


def _erased(database: Database, event_ids: Collection[int]) -> list[int]:
    return _those(database, event_ids, Event.removed_parts == RemovedParts.ERASED)


def _bodiless(database: Database, event_ids: Collection[int]) -> list[int]:
    return _those(database, event_ids, Event.removed_parts.is_null(False))


def _those(database: Database, event_ids: Collection[int], condition: Any) -> list[int]:
    query = Event.select(Event.id).where(Event.id.in_(list(event_ids)), condition)
    return [event_id for (event_id,) in queries.tuples(database, query)]


INSTEAD = (("reference", _nameless),)
VETOES = (
    Veto(
        name="erased",
        find=_erased,
        left="the person was erased: {}.",
        why_not=ERASED,
        refusal="The person of this event was erased, so nothing was queued: no hook runs for it"
        " again.",
    ),
    Veto(
        name="bodiless",
        find=_bodiless,
        left="the hook needs the body, which was deleted when its retention period expired: {}.",
        why_not=BODY_GONE,
        refusal="The body of this event was deleted when its retention period expired, so nothing"
        " was queued: this hook needs the body.",
        is_about_body=True,
    ),
)
