"""What is kept, as people read it: who is held, whose relationship has ended, what an event has no
more."""

from collections.abc import Iterator
from dataclasses import dataclass

from peewee import Case

from premblyd import times
from premblyd.engines.engine import Database
from premblyd.keep.holds import Subject, is_held, is_in_force
from premblyd.model.keeptables import Closing, Erasure, Hold, Lacks
from premblyd.model.tables import Event
from premblyd.prembly.payload import plain_id
from premblyd.record import naming, queries
from premblyd.record.queries import ClosingRow, ErasureRow, HoldRow, WholeEvent
from premblyd.verifications.digests import Digests

LACKS: dict[str, str] = {
    Lacks.MEDIA: "Its photos, and what else was long and encoded, were removed when their time was"
    " over: the body has their lengths and digests, and is not byte for byte what came.",
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
        """Whether it has a body, if without photos."""
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


def holds(database: Database, now_ms: int, *, ended: bool = False) -> list[HoldRow]:
    """Return the holds in force, and those that have ended if they are wanted, by their ids."""
    in_force = is_in_force(now_ms)
    shown = Case(None, [(in_force, 1)], 0).alias("is_in_force")
    query = Hold.select(*queries.columns(Hold, HoldRow), shown)
    return queries.whole(database, query if ended else query.where(in_force), Hold.id, HoldRow)


def closings(database: Database) -> list[ClosingRow]:
    """Return whose relationship has ended, in the order in which it was noted."""
    query = Closing.select(*queries.columns(Closing, ClosingRow))
    return queries.whole(database, query, Closing.id, ClosingRow)


def erasures(database: Database) -> list[ErasureRow]:
    """Return what was erased at request, in that order."""
    query = Erasure.select(*queries.columns(Erasure, ErasureRow))
    return queries.whole(database, query, Erasure.id, ErasureRow)


def has_closings(database: Database) -> bool:
    """Return whether the end of any relationship is noted."""
    return queries.value(database, Closing.select(Closing.id)) is not None


def oldest_ms(database: Database) -> int | None:
    """Return when the oldest event came that is there; None for none."""
    query = Event.select(Event.received_at_ms).order_by(Event.received_at_ms)
    return queries.time(queries.value(database, query))


def count_of(database: Database, subject: Subject) -> int:
    """Return how many events name this person, or have this reference in any spelling."""
    if subject.user_ref is not None:
        conditions = [Event.user_ref == naming.user(database, subject.user_ref)]
    else:
        plain = plain_id(subject.reference or "")
        spellings = {plain, subject.reference, naming.reference(database, plain)}
        conditions = [Event.reference.in_(spellings), Event.reference_key == plain]
        conditions.append(Event.session_id.in_(spellings))
        digest = database.look(Digests.of).of_session(plain)
        conditions.append(Event.session_digest == digest)
    found = [queries.tuples(database, Event.select(Event.id).where(each)) for each in conditions]
    return len(set().union(*found))
