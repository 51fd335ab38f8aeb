"""What lists and replays say of events of which something was deleted; and the lists of holds and
of erasures."""

from collections.abc import Collection
from functools import partial
from typing import Any

from peewee import Case

from premblyd.features.keeping.holds import Subject, is_in_force
from premblyd.features.keeping.tables import Erasure, Hold
from premblyd.prembly.payload import plain_id
from premblyd.queue.names import groups
from premblyd.queue.queue import BODY_GONE, ERASED
from premblyd.record import queries
from premblyd.record.listing import Veto
from premblyd.record.queries import Row, row_of
from premblyd.store.columns import Seen
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


@row_of(Hold, Seen.LISTS)
class HoldRow(Row):
    """A hold; of one that has ended, without whom it was on."""

    is_in_force: bool


@row_of(Erasure, Seen.LISTS)
class ErasureRow(Row):
    """An erasure at a person's request."""


def holds(database: Database, now_ms: int, *, ended: bool = False) -> list[HoldRow]:
    """Return the holds in force, and those that have ended if they are wanted, by their ids."""
    in_force = is_in_force(now_ms)
    shown = Case(None, [(in_force, 1)], 0).alias("is_in_force")
    query = Hold.select(*queries.columns(Hold, HoldRow), shown)
    return queries.whole(database, query if ended else query.where(in_force), Hold.id, HoldRow)


def erasures(database: Database) -> list[ErasureRow]:
    """Return what was erased at request, in that order."""
    query = Erasure.select(*queries.columns(Erasure, ErasureRow))
    return queries.whole(database, query, Erasure.id, ErasureRow)


def count_of(database: Database, subject: Subject) -> int:
    """Return how many events name this person, or have this reference in any spelling, or another
    name of its verification."""
    if subject.user_ref is not None:
        conditions = [Event.user_ref == subject.user_ref]
    else:
        plain = plain_id(subject.reference or "")
        spellings = {plain, subject.reference or ""}
        known = database.look(partial(groups, names=spellings))
        spellings = spellings.union(*known.values())
        conditions = [Event.reference.in_(spellings), Event.reference_key.in_(spellings)]
        conditions.append(Event.session_id.in_(spellings))
    found = [queries.tuples(database, Event.select(Event.id).where(each)) for each in conditions]
    return len(set().union(*found))


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
