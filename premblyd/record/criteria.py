"""Conditions of lists that need more than a column's value.

Whether an event was handled: how its delivery stands that stands worst. Whether Prembly, asked to
confirm it, contradicted it and has not confirmed it since: nobody should run a hook for one without
having looked. And events by whatever somebody has of them: a number, a key, a reference or a
user_ref. References and user_refs are found in any case of letters, by the indexes of their
columns, which know one case alone: which spellings there are is looked up letter by letter.
"""

import functools
import operator
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from peewee import SQL, Case, Expression, Field, ModelSelect, fn

from premblyd.features.asking.tables import Awaited, Inquiry
from premblyd.prembly.payload import Outcome, plain_id
from premblyd.record import queries
from premblyd.record.queries import By
from premblyd.store.engine import Database
from premblyd.store.states import InquiryResult, Purpose, State
from premblyd.store.tables import IS_DOUBTED, Delivery, Event, OperatorAction

FEW = 4_000  # rows of an index: a statement looks at all of them
UNDONE = (State.DEAD, State.RUNNING, State.PENDING, State.CANCELLED)  # the worst first
DONE = State.SUCCEEDED  # or skipped, as another was done in its place
NONE = "none"  # no action was for it
HANDLED = (*(state.value for state in UNDONE), DONE.value, NONE)
MAX_SPELLINGS = 8
_END = "\U0010ffff"  # follows all that begins with the text before it
_KEY = r"[0-9a-f]{8,32}"
DISMISSED = "dismiss"  # what the record calls it
# Somebody has looked at an event, and it needs nobody any more.
IS_DISMISSED = fn.EXISTS(
    OperatorAction.select(SQL("1")).where(
        OperatorAction.event_id == Event.id, OperatorAction.action == DISMISSED
    )
)
_OF_DELIVERIES = Delivery.select().from_(By(Delivery, "delivery_event"))
# As text, so that SQLite sees that the index has these rows.
_IS_CONTRADICTED = (Inquiry.result == SQL("'contradicted'")) & (Inquiry.purpose == Purpose.CONFIRM)
_BY_RESULT = "inquiry_contradicted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What the rows of a list have in common, and the index that has just these rows, if one has.

    With `is_of_ids`, it names the rows by their ids: no index has fewer. With `is_in_range`, nearly
    all rows fulfil it that have the ids at which the list is looked at.
    """

    expression: Expression
    index: str | None = None
    is_of_ids: bool = False
    is_in_range: bool = False


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


def contradicted_ids() -> "ModelSelect[Any]":
    """Return the query of the events' numbers."""
    return Inquiry.select(Inquiry.event).from_(By(Inquiry, _BY_RESULT)).where(_still())


def count_contradicted(database: Database, since_ms: int) -> int:
    """Return how many events Prembly contradicted since a time, and has not confirmed since."""
    query = Inquiry.select(fn.COUNT(Inquiry.event.distinct())).from_(By(Inquiry, _BY_RESULT))
    return int(queries.value(database, query.where(_still(), Inquiry.at_ms >= since_ms)))


def was_contradicted(database: Database, event_id: int) -> bool:
    """Return whether an event is one of these."""
    return bool(queries.tuples(database, contradicted_ids().where(Inquiry.event == event_id)))


def is_contradicted(event: Any = Event.id) -> Any:
    """Return the column that says of a row whether its event is one of these."""
    of_event = (
        Inquiry.select(SQL("1"))
        .from_(By(Inquiry, _BY_RESULT))
        .where(_still(), Inquiry.event == event)
    )
    return fn.EXISTS(of_event).alias("contradicted")


def _still() -> Any:
    later = Delivery.alias("later")
    confirmed = later.select(SQL("1")).where(
        later.event == Inquiry.event, later.confirmed_at_ms >= Inquiry.at_ms
    )
    return _IS_CONTRADICTED & ~fn.EXISTS(confirmed)


def undismissed_ids(database: Database) -> dict[str, list[int]]:
    """Return the events that need somebody until he has looked at them, by the kind of trouble; of
    each at most FEW."""
    of_kind: dict[str, ModelSelect[Any]] = {
        "doubted": Event.select(Event.id).where(
            IS_DOUBTED, ~IS_DISMISSED, ~(WAS_ANSWERED | _is_reference_answered()), ~IS_DIFFERING
        ),
        "differs": Event.select(Event.id).where(
            Event.id.in_(
                Inquiry.select(Inquiry.event)
                .from_(By(Inquiry, _BY_RESULT))
                .where(Inquiry.result == SQL("'contradicted'"), Inquiry.purpose != Purpose.CONFIRM)
            ),
            IS_DOUBTED,
            ~IS_DISMISSED,
            ~_is_verified_since(),
        ),
        "given_up": Awaited.select(Awaited.event)
        .join(Event)
        .where(
            Awaited.state == SQL("'given_up'"),  # as the index has it, which is of few rows
            Awaited.answered_at_ms.is_null(),
            Awaited.ask_count > 0,
            ~IS_DISMISSED,
        ),
    }
    return {
        kind: [number for (number,) in queries.tuples(database, query.limit(FEW))]
        for kind, query in of_kind.items()
    }


def _was_asked(condition: Any) -> Any:
    """Return the condition that Prembly was asked what became of an event, with such an answer."""
    return fn.EXISTS(
        Inquiry.select(Inquiry.id).where(
            Inquiry.event == Event.id, Inquiry.purpose != Purpose.CONFIRM, condition
        )
    )


NO_ANSWER = (InquiryResult.REFUSED, InquiryResult.UNAVAILABLE)
WAS_ANSWERED = _was_asked(Inquiry.result.not_in(NO_ANSWER))
IS_DIFFERING = _was_asked(Inquiry.result == InquiryResult.CONTRADICTED)


def _is_reference_answered() -> Any:
    """Return the condition that Prembly said something about an event's reference."""
    about_reference = Awaited.select(SQL("1")).where(
        Awaited.reference == Event.reference, Awaited.answered_at_ms.is_null(False)
    )
    return fn.EXISTS(about_reference)


def _is_verified_since() -> Any:
    other = Event.alias("other")
    verified = other.select(SQL("1")).where(
        other.reference == Event.reference, other.outcome == Outcome.VERIFIED
    )
    return fn.EXISTS(verified)


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
