"""The lists of holds and of erasures."""

from functools import partial

from peewee import Case

from premblyd.features.keeping.holds import Subject, is_in_force
from premblyd.features.keeping.tables import Erasure, Hold
from premblyd.prembly.payload import plain_id
from premblyd.queue.names import groups
from premblyd.record import queries
from premblyd.record.queries import Row, row_of
from premblyd.store.columns import Seen
from premblyd.store.engine import Database
from premblyd.store.tables import Event


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
