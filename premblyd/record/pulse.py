"""Whether something has changed: what the console looks at every second while people watch."""

from dataclasses import dataclass

from peewee import Database, fn

from premblyd.model.states import State
from premblyd.model.tables import Attempt, Delivery, Event, OperatorAction, Rejection
from premblyd.record import fetching

COUNTED = 10_000  # dead deliveries: no more are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """The newest of everything. Two are the same when there is nothing new to see."""

    event: int
    attempt: int
    rejection: int
    operator_action: int
    running: int
    dead: int


def pulse(database: Database) -> Pulse:
    """Return the newest of everything: from the ends of indexes, in less than a millisecond."""
    newest = [
        fetching.tuples(database, table.select(fn.COALESCE(fn.MAX(table.id), 0)))[0][0]
        for table in (Event, Attempt, Rejection, OperatorAction)
    ]
    event, attempt, rejection, operator_action = newest
    return Pulse(
        event=event,
        attempt=attempt,
        rejection=rejection,
        operator_action=operator_action,
        running=_count(database, State.RUNNING),
        dead=_count(database, State.DEAD),
    )


def _count(database: Database, state: State) -> int:
    some = Delivery.select(Delivery.id).where(Delivery.state == state).limit(COUNTED)
    ((count,),) = fetching.tuples(database, Delivery.select(fn.COUNT(some.c.id)).from_(some))
    return int(count)
