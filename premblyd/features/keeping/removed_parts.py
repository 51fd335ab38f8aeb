"""What was deleted of an event, by which erasure, and whether it is on hold: as people read it."""

from collections.abc import Iterator
from dataclasses import dataclass

from premblyd.features.keeping.holds import is_on_hold
from premblyd.features.keeping.keeplists import ErasureRow
from premblyd.features.keeping.tables import Erasure, RemovedParts
from premblyd.ground import times
from premblyd.record import queries
from premblyd.record.queries import WholeEvent
from premblyd.store.engine import Database
from premblyd.store.tables import Event

REMOVED_PARTS: dict[str, str] = {
    RemovedParts.BODY: "Its body and headers, and what hooks printed, were deleted when their"
    " retention period expired.",
    RemovedParts.IDENTITY: "All personal data in it was deleted when its retention period expired.",
    RemovedParts.ERASED: "All personal data in it was erased.",
}
NAMELESS = {
    RemovedParts.IDENTITY: "(removed)",
    RemovedParts.ERASED: "(erased)",
}  # in place of a reference
ON_HOLD = (
    "It is on legal hold: none of it is deleted until the hold ends"
    " (`premblyd person hold --list`)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What is left of an event, by which erasure it was emptied, and whether it is on hold."""

    removed_parts: str | None
    erasure: ErasureRow | None
    is_on_hold: bool
    is_late: bool  # it came after its person was erased

    @property
    def has_body(self) -> bool:
        """Whether it has its body."""
        return self.removed_parts != RemovedParts.BODY and self.has_person

    @property
    def has_person(self) -> bool:
        """Whether it has anything that a reveal would show."""
        return self.removed_parts not in (RemovedParts.IDENTITY, RemovedParts.ERASED)

    def sentences(self) -> Iterator[str]:
        """Yield what there is to say to people."""
        if self.erasure is not None:
            at, who = times.for_people(self.erasure.at_ms), self.erasure.actor
            came = " It came after that, and was stored without it." if self.is_late else ""
            yield (
                f"All personal data in it was erased at {at} UTC by {who} (erasure"
                f" {self.erasure.id}).{came}"
            )
        elif self.removed_parts is not None:
            yield REMOVED_PARTS.get(self.removed_parts, f"Removed: {self.removed_parts}.")
        if self.is_on_hold:
            yield ON_HOLD


def remains(database: Database, event: WholeEvent, now_ms: int) -> Remains:
    """Return how an event stands."""
    found: list[ErasureRow] = []
    if event.erasure_id is not None:
        query = Erasure.select(*queries.columns(Erasure, ErasureRow))
        found = queries.rows(database, query.where(Erasure.id == event.erasure_id), ErasureRow)
    held = Event.select(Event.id).where(Event.id == event.id, is_on_hold(now_ms))
    return Remains(
        removed_parts=event.removed_parts,
        erasure=found[0] if found else None,
        is_on_hold=bool(queries.tuples(database, held)),
        is_late=bool(found) and event.received_at_ms > found[0].at_ms,
    )
