"""What is shown of an event: what was deleted of it, by whom, and whether it is on hold."""

from collections.abc import Iterator

from premblyd.config.models import Config
from premblyd.features.keeping.holds import is_on_hold
from premblyd.features.keeping.listing import ErasureRow
from premblyd.features.keeping.tables import Erasure
from premblyd.ground import times
from premblyd.record import queries
from premblyd.record.events import Show, Told, WholeEvent
from premblyd.store.engine import Database
from premblyd.store.states import RemovedParts
from premblyd.store.tables import Event

REMOVED_PARTS: dict[str, str] = {
    RemovedParts.BODY: "Its body and headers, and what hooks printed, were deleted when their"
    " retention period expired.",
    RemovedParts.IDENTITY: "All personal data in it was deleted when its retention period expired.",
    RemovedParts.ERASED: "All personal data in it was erased.",
}
ON_HOLD = (
    "It is on legal hold: none of it is deleted until the hold ends"
    " (`premblyd person hold --list`)."
)


def of_event(database: Database, event: WholeEvent, _: Show, __: Config | None) -> Told:
    """Return how an event stands."""
    held = Event.select(Event.id).where(Event.id == event.id, is_on_hold(database.now_ms()))
    on_hold = bool(queries.tuples(database, held))
    sentences = [*_deleted(database, event)]
    return Told(values={"on_hold": on_hold}, sentences=sentences + [ON_HOLD] * on_hold)


def _deleted(database: Database, event: WholeEvent) -> Iterator[str]:
    found: list[ErasureRow] = []
    if event.erasure_id is not None:
        query = Erasure.select(*queries.columns(Erasure, ErasureRow))
        found = queries.rows(database, query.where(Erasure.id == event.erasure_id), ErasureRow)
    for erasure in found:
        is_late = event.received_at_ms > erasure.at_ms
        at, who = times.for_people(erasure.at_ms), erasure.actor
        came = " It came after that, and was stored without it." if is_late else ""
        erased = f"erased at {at} UTC by {who} (erasure {erasure.id})."
        yield f"All personal data in it was {erased}{came}"
    if event.removed_parts is not None and not found:
        yield REMOVED_PARTS.get(event.removed_parts, f"Removed: {event.removed_parts}.")


OF_EVENT = (of_event,)
