"""What replays say of events of which something was deleted; and the list of holds."""

from collections.abc import Collection
from typing import Any

from premblyd.features.keeping.holds import is_in_force
from premblyd.features.keeping.tables import Hold
from premblyd.queue.queue import BODY_GONE, ERASED
from premblyd.record import queries
from premblyd.record.listing import Veto
from premblyd.record.queries import Row, row_of
from premblyd.store.columns import Seen
from premblyd.store.engine import Database
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Event


def _erased(database: Database, event_ids: Collection[int]) -> list[int]:
    return _those(database, event_ids, Event.removed_parts == RemovedParts.ERASED)


def _bodiless(database: Database, event_ids: Collection[int]) -> list[int]:
    return _those(database, event_ids, Event.removed_parts.is_null(False))


def _those(database: Database, event_ids: Collection[int], condition: Any) -> list[int]:
    query = Event.select(Event.id).where(Event.id.in_(list(event_ids)), condition)
    return [event_id for (event_id,) in queries.tuples(database, query)]


@row_of(Hold, Seen.LISTS)
class HoldRow(Row):
    """A hold."""


def holds(database: Database, now_ms: int) -> list[HoldRow]:
    """Return the holds in force, by their ids."""
    query = Hold.select(*queries.columns(Hold, HoldRow)).where(is_in_force(now_ms))
    return queries.whole(database, query, Hold.id, HoldRow)


VETOES = (
    Veto(
        name="erased",
        find=_erased,
        why=ERASED,
    ),
    Veto(
        name="bodiless",
        find=_bodiless,
        why=BODY_GONE,
        is_about_body=True,
    ),
)
