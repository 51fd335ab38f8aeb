"""Conditions of lists that need more than a column's value.

Whether an event was handled: how its delivery stands that stands worst. And events by whatever
somebody has of them: a number, a key, a reference or a user_ref. References and user_refs are found
in any case of letters, by the indexes of their columns, which know one case alone: which spellings
there are is looked up letter by letter.
"""

import functools
import operator
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from peewee import SQL, Case, Expression, Field, ModelSelect, fn

from premblyd.prembly.payload import plain_id
from premblyd.record import queries
from premblyd.record.listing import Condition
from premblyd.record.queries import By
from premblyd.store.engine import Database
from premblyd.store.states import State
from premblyd.store.tables import Delivery, Event

FEW = 4_000  # rows of an index: a statement looks at all of them
UNDONE = (State.DEAD, State.RUNNING, State.PENDING, State.CANCELLED)  # the worst first
DONE = State.SUCCEEDED  # or skipped, as another was done in its place
NONE = "none"  # no action was for it
HANDLED = (*(state.value for state in UNDONE), DONE.value, NONE)
MAX_SPELLINGS = 8
_END = "\U0010ffff"  # follows all that begins with the text before it
_KEY = r"[0-9a-f]{8,32}"
_OF_DELIVERIES = Delivery.select().from_(By(Delivery, "delivery_event"))


def worst_of(states: Collection[str]) -> str:
    """Return the worst of these states of an event's deliveries."""
    if not states:
        return NONE
    return next((state for state in UNDONE if state in states), DONE)


def handled() -> Any:
    """Return the same of a row of events, as a column."""
    rank = Case(Delivery.state, [(state, at) for at, state in enumerate(UNDONE)], len(UNDONE))
    worst = _OF_DELIVERIES.select(fn.MIN(rank)).where(Delivery.event == Event.id)
    return Case(worst, [*enumerate((*UNDONE, DONE))], NONE)


def deliveries() -> Any:
    """Return the column that counts an event's deliveries."""
    return _OF_DELIVERIES.select(fn.COUNT(Delivery.id)).where(Delivery.event == Event.id)


def is_handled(database: Database, word: str) -> Condition:
    """Return the condition that an event stands so. Few have a delivery that is not done: these
    events are looked for by the index of the states."""
    stands = handled() == word
    if word not in UNDONE:
        return Condition(expression=stands)
    found = Delivery.select(Delivery.event).from_(By(Delivery, "delivery_state"))
    found = found.where(Delivery.state == word).limit(FEW)
    numbers = {number for (number,) in queries.tuples(database, found)}
    if len(numbers) >= FEW:
        return Condition(expression=stands)
    expression = Event.id.in_(sorted(numbers) or [0]) & stands
    return Condition(expression=expression, is_of_ids=True)


class _Name(NamedTuple):
    """What events of one name have in common, and the query of their ids."""

    expression: Expression
    ids: "ModelSelect[Any]"


def by_any_name(database: Database, text: str) -> Condition:
    """Return the condition that an event has this number, key (or its first eight digits) or
    user_ref, or a reference that begins so."""
    return _by_names(database, [*_names(database, text, _begins)])


def by_whole_name(database: Database, text: str) -> Condition:
    """Return the same, of the whole reference alone: by how it begins, one would learn a masked
    one letter by letter."""
    return _by_names(database, [*_names(database, text, operator.eq)])


def _by_names(database: Database, names: Sequence[_Name]) -> Condition:
    if sum(queries.count(database, ids, FEW) for _, ids in names) >= FEW:
        # So many are met soon on the way through all events.
        return Condition(expression=functools.reduce(operator.or_, (e for e, _ in names)))
    found = {number for name in names for (number,) in queries.tuples(database, name.ids)}
    return Condition(expression=Event.id.in_(sorted(found) or [0]), is_of_ids=True)


def _names(
    database: Database, text: str, is_reference: Callable[[Any, str], Expression]
) -> Iterator[_Name]:
    if re.fullmatch(r"[0-9]{1,18}", text):
        yield _name(Event.id == int(text))
    if re.fullmatch(_KEY, text.lower()):
        yield _name(_begins(Event.key, text.lower()))
    for reference in sorted({text, plain_id(text)}):
        for start in spellings(database, Event.reference, "event_reference", reference):
            yield _name(is_reference(Event.reference, start), "event_reference")
    yield _name(Event.reference_key == plain_id(text), "event_reference_key")
    for user_ref in spellings(database, Event.user_ref, "event_user_ref", text):
        yield _name(Event.user_ref == user_ref, "event_user_ref")


def _name(expression: Expression, index: str | None = None) -> _Name:
    ids = Event.select(Event.id).where(expression)
    return _Name(expression, ids.from_(By(Event, index)) if index else ids)


def spellings(database: Database, column: Field, index: str, text: str) -> list[str]:
    """Return how rows spell this beginning of a column, in small letters and in capitals: a seek
    in the index for each letter and spelling."""
    found = [""]
    for letter in text:
        cases = sorted({letter.lower(), letter.upper()})
        found = [start + each for start in found for each in cases]
        if len(cases) > 1:
            found = [start for start in found if _is_there(database, column, index, start)]
            del found[MAX_SPELLINGS:]
    return found


def _is_there(database: Database, column: Field, index: str, start: str) -> bool:
    query = Event.select(SQL("1")).from_(By(Event, index)).where(_begins(column, start)).limit(1)
    return bool(queries.tuples(database, query))


def _begins(column: Any, start: str) -> Expression:
    expression: Expression = column.between(start, start + _END)
    return expression
