"""What an event has no more, by which erasure, and whether it is held: as people are told of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from premblyd import times
from premblyd.engines.engine import Database
from premblyd.keep.holds import is_held
from premblyd.model.keeptables import Erasure, Lacks
from premblyd.model.tables import Event
from premblyd.record import queries
from premblyd.record.queries import ErasureRow, WholeEvent

LACKS: dict[str, str] = {
    Lacks.BODY: "Its body and headers, and what hooks printed, were removed when their time was"
    " over.",
    Lacks.IDENTITY: "All of it that named a person was removed when its time was over.",
}
NAMELESS = {Lacks.IDENTITY: "(removed)", Lacks.ERASED: "(erased)"}  # in place of a reference
HELD = "It is held: nothing of it is removed or erased before that ends (`premblyd hold --list`)."


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What an event has no more, by which erasure, and whether it is held."""

    lacks: str | None
    erasure: ErasureRow | None
    is_held: bool
    is_late: bool  # it came after its person was erased

    @property
    def has_body(self) -> bool:
        """Whether it has its body."""
        return self.lacks != Lacks.BODY and self.has_person

    @property
    def has_person(self) -> bool:
        """Whether it has anything that a reveal would show."""
        return self.lacks not in (Lacks.IDENTITY, Lacks.ERASED)

    def sentences(self) -> Iterator[str]:
        """Yield what there is to say to people."""
        if self.erasure is not None:
            at, who = times.for_people(self.erasure.at_ms), self.erasure.actor
            came = " It came after that, and was stored so." if self.is_late else ""
            yield (
                f"All of it that named a person was erased at {at} UTC by {who}, as erasure"
                f" {self.erasure.id}.{came}"
            )
        elif self.lacks == Lacks.ERASED:
            yield "All of it that named a person was erased."
        elif self.lacks is not None:
            yield LACKS.get(self.lacks, f"It lacks {self.lacks}.")
        if self.is_held:
            yield HELD


def standing(database: Database, event: WholeEvent, now_ms: int) -> Standing:
    """Return how an event stands."""
    found: list[ErasureRow] = []
    if event.erasure_id is not None:
        query = Erasure.select(*queries.columns(Erasure, ErasureRow))
        found = queries.rows(database, query.where(Erasure.id == event.erasure_id), ErasureRow)
    held = Event.select(Event.id).where(Event.id == event.id, is_held(now_ms))
    return Standing(
        lacks=event.lacks,
        erasure=found[0] if found else None,
        is_held=bool(queries.tuples(database, held)),
        is_late=bool(found) and event.received_at_ms > found[0].at_ms,
    )
