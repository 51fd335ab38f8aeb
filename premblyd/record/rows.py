"""What the record holds, as rows that people and programs read. Times in Unix milliseconds.

A row has the columns of its table that people see where they look (`seen`, in model/columns.py), so
one of a list has no payload and no secret.
"""

import dataclasses
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from peewee import Model

from premblyd.model.columns import PLAIN, Column, Seen, columns
from premblyd.model.states import State
from premblyd.model.tables import (
    Attempt,
    Awaited,
    Delivery,
    Event,
    Inquiry,
    OperatorAction,
    Rejection,
)
from premblyd.privacy.documents import mask
from premblyd.privacy.fields import Shape

_Class = TypeVar("_Class", bound=type[Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row: a value for each column."""

    if TYPE_CHECKING:  # which columns it has, the tables say

        def __init__(self, **columns: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    def masked(self, plain: Collection[str] = ()) -> dict[str, Any]:
        """Return its columns as people see them who may not see personal data, those in `plain`
        as they are."""
        return {
            each.name: mask(
                getattr(self, each.name),
                Shape.PLAIN if each.name in plain else each.metadata.get("shown", Shape.PLAIN),
            )
            for each in dataclasses.fields(self)
        }


def _row_of(
    table: type[Model], seen: Seen, also: tuple[Any, ...] = ()
) -> Callable[[_Class], _Class]:
    """Make a row of a class: it has the columns of `table` seen there, those in `also`, and its
    own, which are made for it alone and name nobody."""

    def make(cls: _Class) -> _Class:
        found: list[Any] = [_field(column) for column in (*columns(table, seen), *also)]
        found += inspect.get_annotations(cls).items()
        made: Any = dataclasses.make_dataclass(
            cls.__name__, found, bases=(Row,), frozen=True, slots=True, kw_only=True
        )
        made.__doc__, made.__module__ = cls.__doc__, cls.__module__
        return cast("_Class", made)

    return make


def _field(column: Column) -> tuple[str, Any, Any]:
    about = {"kind": column.kind, "shown": column.shown}
    # What is private stands in no error's text, and in no log.
    return column.column_name, Any, field(repr=column.holds is PLAIN, metadata=about)


@_row_of(Event, Seen.LISTS)
class EventRow(Row):
    """An event in a list."""

    contradicted: bool  # by Prembly, asked to confirm it
    handled: str  # how the delivery stands that stands worst; none: no action was for it
    deliveries: int


@_row_of(Event, Seen.EVENT)
class WholeEvent(Row):
    """An event with its payload and its secrets."""


OF_EVENT = (Event.type, Event.response_code, Event.outcome, Event.reference)


@_row_of(Delivery, Seen.LISTS, OF_EVENT)
class DeliveryRow(Row):
    """A delivery, and what its event is about; that may have been deleted by hand."""

    ran_instead_event_id: int | None
    contradicted: bool


@_row_of(Attempt, Seen.EVENT)
class AttemptRow(Row):
    """One run of a delivery's hook, with what that printed."""


@_row_of(Inquiry, Seen.LISTS)
class InquiryRow(Row):
    """A question to Prembly, and what came of it."""


@_row_of(Rejection, Seen.LISTS)
class RejectionRow(Row):
    """A request that was refused."""


@_row_of(Awaited, Seen.LISTS)
class AwaitedRow(Row):
    """A verification that was not settled, and what became of asking Prembly about it."""


@_row_of(OperatorAction, Seen.LISTS)
class OperatorRow(Row):
    """What a person did: of a replay of many, with how many deliveries that queued."""

    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDelivery:
    """A delivery that an operator's command is about."""

    id: int
    event_id: int
    action: str
    state: State
    ran_instead_id: int | None
    contradicted: bool  # its event was, by Prembly


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEvent:
    """An event that has no delivery of an action, its type and its response code."""

    id: int
    type: str | None
    response_code: str | None
    doubt: str | None
    contradicted: bool
