"""Whether an event was handled: how its delivery stands that stands worst."""

from collections.abc import Collection
from typing import Any

from peewee import Case, Database, fn

from premblyd.model.states import State
from premblyd.model.tables import Delivery, Event
from premblyd.record import fetching
from premblyd.record.leafing import FEW, By, Condition

UNDONE = (State.DEAD, State.RUNNING, State.PENDING, State.CANCELLED)  # the worst first
DONE = State.SUCCEEDED  # or skipped, as another was done in its place
NONE = "none"  # no action was for it
WORDS = (*(state.value for state in UNDONE), DONE.value, NONE)


def worst_of(states: Collection[str]) -> str:
    """Return how an event stands whose deliveries are in these states."""
    if not states:
        return NONE
    return next((state for state in UNDONE if state in states), DONE)


def column() -> Any:
    """Return the same of a row of events, as a column."""
    rank = Case(Delivery.state, [(state, at) for at, state in enumerate(UNDONE)], len(UNDONE))
    worst = _deliveries().select(fn.MIN(rank)).where(Delivery.event == Event.id)
    return Case(worst, [*enumerate((*UNDONE, DONE))], NONE)


def count() -> Any:
    """Return the column that counts an event's deliveries."""
    return _deliveries().select(fn.COUNT(Delivery.id)).where(Delivery.event == Event.id)


def condition(database: Database, word: str) -> Condition:
    """Return the condition that an event stands so. Few have a delivery that is not done: these
    events are looked for by the index of the states."""
    stands = column() == word
    if word not in UNDONE:
        return Condition(expression=stands)
    found = Delivery.select(Delivery.event).from_(By(Delivery, "delivery_state"))
    found = found.where(Delivery.state == word).limit(FEW)
    numbers = {number for (number,) in fetching.tuples(database, found)}
    if len(numbers) >= FEW:
        return Condition(expression=stands)
    expression = Event.id.in_(sorted(numbers) or [0]) & stands
    return Condition(expression=expression, is_of_ids=True)


def _deliveries() -> Any:
    return Delivery.select().from_(By(Delivery, "delivery_event"))
