"""How the deliveries of each action stand: how many wait, run, are overdue or dead. Counted by
indexes, never from all of them.

Features say in words why an action is at rest, in their shown.py (IN_WORDS)."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from peewee import SQL, fn

from premblyd.feature import added
from premblyd.record import queries, standing
from premblyd.store.engine import Database
from premblyd.store.states import State
from premblyd.store.tables import IS_HELD, Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the deliveries of an action stand."""

    action: str
    waiting: int  # waits to run, for the first time or again
    running: int
    dead: int
    overdue: int  # of the waiting: could run, and does not yet
    oldest_waiting_at_ms: int | None  # when the delivery was made that has waited longest
    next_due_at_ms: int | None


def standings(
    database: Database, now_ms: int, names: Collection[str] = (), others: Iterable[str] = ()
) -> list[Standing]:
    """Return how the actions stand: those called `names` first, then `others` and all that have
    open deliveries or are at rest, by name."""
    queued, due = _queued(database), standing.due(database, now_ms)
    held = standing.counts(database, IS_HELD)
    running = standing.counts(database, Delivery.state == State.RUNNING)
    dead, resting = standing.dead_of(database), standing.at_rest(database, now_ms)
    found = []
    for name in (*names, *sorted({*others, *queued, *held, *dead, *resting} - set(names))):
        count, oldest_ms = queued.get(name, (0, None))
        overdue = due.get(name, standing.Overdue(count=0, since_ms=None))
        found.append(
            Standing(
                action=name,
                waiting=max(0, count - running.get(name, 0)) + held.get(name, 0),
                running=running.get(name, 0),
                dead=dead.get(name, 0),
                overdue=0 if name in resting else overdue.count,
                oldest_waiting_at_ms=oldest_ms,
                next_due_at_ms=overdue.since_ms,
            )
        )
    return found


def at_rest_in_words(database: Database, now_ms: int) -> dict[str, str]:
    """Return of which actions an operator lets nothing begin now, in words for who may read the
    record, behind `NAME has been`."""
    found: dict[str, str] = {}
    for ask in added("shown", "IN_WORDS"):
        found |= ask(database, now_ms)
    return found


def _queued(database: Database) -> dict[str, tuple[int, int | None]]:
    """Return by action how many deliveries are in the queue, waiting or running, and when the first
    one was made: one walk over the queue's own index."""
    query = (
        Delivery.select(Delivery.action, fn.COUNT(SQL("*")), fn.MIN(Delivery.id))
        .where(Delivery.due_at_ms.is_null(False))
        .group_by(Delivery.action)
    )
    found = queries.tuples(database, query)
    first_ids = [first_id for _, _, first_id in found]
    first = Delivery.select(Delivery.id, Delivery.created_at_ms).where(Delivery.id.in_(first_ids))
    made_ms = dict(queries.tuples(database, first))
    return {str(action): (count, made_ms.get(first_id)) for action, count, first_id in found}
