"""Events by whatever somebody has of them: a number, a key, a reference or a user_ref.

References and user_refs are found in any case of letters, by the indexes of their columns, which
know one case alone: which spellings there are is looked up letter by letter.
"""

import functools
import operator
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from peewee import SQL, Database, Expression, Field, ModelSelect, fn

from premblyd.model.tables import Event
from premblyd.prembly.payload import plain_id
from premblyd.record import fetching
from premblyd.record.leafing import FEW, By, Condition

MAX_SPELLINGS = 8
_END = "\U0010ffff"  # follows all that begins with the text before it
_KEY = r"[0-9a-f]{8,32}"


class _Name(NamedTuple):
    """What events of one name have in common, and the query of their ids."""

    expression: Expression
    ids: "ModelSelect[Any]"


def by_any_name(database: Database, text: str) -> Condition:
    """Return the condition that an event has this number, key (or its first eight digits) or
    user_ref, or a reference that begins so."""
    names = list(_names(database, text))
    if sum(_count(database, name) for name in names) >= FEW:
        # So many are met soon on the way through all events.
        return Condition(expression=functools.reduce(operator.or_, (e for e, _ in names)))
    found = {number for name in names for (number,) in fetching.tuples(database, name.ids)}
    return Condition(expression=Event.id.in_(sorted(found) or [0]), is_of_ids=True)


def _count(database: Database, name: _Name) -> int:
    some = name.ids.limit(FEW).alias("some")
    [(count,)] = fetching.tuples(database, Event.select(fn.COUNT(some.c.id)).from_(some))
    return int(count)


def _names(database: Database, text: str) -> Iterator[_Name]:
    if re.fullmatch(r"[0-9]{1,18}", text):
        yield _name(Event.id == int(text))
    if re.fullmatch(r"[0-9a-f]{8,32}", text.lower()):
        yield _name(_begins(Event.key, text.lower()))
    for reference in sorted({text, plain_id(text)}):
        for start in spellings(database, Event.reference, "event_reference", reference):
            yield _name(_begins(Event.reference, start), "event_reference")
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
    return bool(fetching.tuples(database, query))


def _begins(column: Any, start: str) -> Expression:
    expression: Expression = column.between(start, start + _END)
    return expression
