"""What a list is made of: its filters and columns; and what a replay leaves out.

A filter is one field of a class of its list, and that is all there is to it: what it asks of the
rows, by which index, and how commands and the console offer it. Both are made of these classes.
Features add theirs in their listing.py.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any, NamedTuple, TypeVar, cast

from peewee import Expression, Field, ModelSelect

from premblyd.feature import added
from premblyd.ground.privacy import Shape
from premblyd.store.columns import Table
from premblyd.store.engine import Database

C = TypeVar("C", bound="Chosen")
Ids = tuple[int, int | None]  # from the first to the last; None: to the newest


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


Where = Callable[[Database, Any], Condition]


class Reads(Enum):
    """What people type for a filter."""

    TEXT = auto()
    WORD = auto()  # one of its choices
    TYPE = auto()  # of events, or a pattern such as transaction.*
    TIME = auto()  # or how long ago
    EVENT = auto()  # its number or key
    ROW = auto()  # its number
    YES = auto()  # nothing: it is asked for or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One way to choose. `help` is a command's (none: it has no such option), `title` and `hint`
    are of the console's field (none: only links ask for it, as with `is_linked`)."""

    where: Where
    reads: Reads
    choices: tuple[str, ...] = ()
    is_linked: bool = False
    probes: bool = False  # by its answers one learns what is masked letter by letter
    help: str = ""
    option: str = ""  # the command's word for it, where it is another
    title: str = ""
    hint: str = ""
    field: str = ""
    name: str = ""

    @property
    def is_offered(self) -> bool:
        return bool(self.help or self.title or self.is_linked)


def filters_of(kind: "type[Chosen]") -> tuple[Filter, ...]:
    """Return the filters of a list, each with its name as people know it."""
    return tuple(
        dataclasses.replace(
            each.metadata["filter"],
            field=each.name,
            name=re.sub("^is_|_ms$|_id$", "", each.name),
        )
        for each in dataclasses.fields(kind)
    )


def by(
    where: Where, title: str = "", option_help: str = "", *, reads: Reads = Reads.TEXT, **more: Any
) -> Any:
    reads = Reads.WORD if more.get("choices") else reads
    about = Filter(where=where, title=title, help=option_help, reads=reads, **more)
    default = False if reads is Reads.YES else None
    return dataclasses.field(default=default, metadata={"filter": about})


def time(where: Where, title: str, option_help: str = "", hint: str = "12h, 2026-01-31") -> Any:
    return by(where, title, option_help, reads=Reads.TIME, hint=hint)


def flag(where: Where, title: str, option_help: str) -> Any:
    return by(where, title, option_help, reads=Reads.YES)


def words(kind: type[StrEnum]) -> tuple[str, ...]:
    return tuple(each.value for each in kind)


def where(expression: Callable[[Any], Expression], **about: Any) -> Where:
    return lambda _, value: Condition(expression=expression(value), **about)


def equals(field: Field, index: str | None = None) -> Where:
    return where(lambda value: field == value, index=index)


def since(at_ms: Any, **about: Any) -> Where:
    return where(lambda since_ms: at_ms >= since_ms, **about)


def until(at_ms: Any, **about: Any) -> Where:
    return where(lambda until_ms: at_ms < until_ms, **about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which rows of a list are meant; None and False do not filter. Times in Unix milliseconds."""

    def conditions(self, database: Database) -> list[Condition]:
        """Return what the rows have in common."""
        return [
            each.where(database, value)
            for each in filters_of(type(self))
            if (value := getattr(self, each.field)) is not None and value is not False
        ]


class AddedFilter(NamedTuple):
    """A filter that a feature adds to the list whose filters the class `of` has. `field`: made by
    `flag`, `by` and so on."""

    of: str
    name: str
    field: Any


def with_added(kind: type[C]) -> type[C]:
    """Give a list's filters those that features add to it."""
    fields = [
        (each.name, Any, each.field)
        for each in added("listing", "FILTERS")
        if each.of == kind.__name__
    ]
    made = dataclasses.make_dataclass(
        kind.__name__, fields, bases=(kind,), frozen=True, slots=True, kw_only=True
    )
    made.__doc__, made.__module__ = kind.__doc__, kind.__module__
    return cast("type[C]", made)


@dataclass(frozen=True, slots=True)
class AddedColumn:
    """A column that a feature adds to the lists of events and of deliveries. `find` returns its
    values by the numbers of events; those of others are `otherwise`. `of_deliveries`: it is in
    these alone, and found by their numbers."""

    name: str
    find: Callable[[Database, Collection[int]], Mapping[int, Any]]
    otherwise: Any = None
    of_deliveries: bool = False
    shown: Shape = Shape.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A list by ids: its filters, its rows, and between which ids the chosen ones are. `query`:
    where it is more than the columns of the table."""

    chosen: type[Chosen]
    table: type[Table]
    row: type[Any]
    query: "Callable[[Any], ModelSelect[Any]] | None" = None
    ids: Callable[[Database, Any], Ids] = lambda database, chosen: (1, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Veto:
    """What a replay leaves out: all of some events. `why`: says why. `option`: says what the option
    does that takes them nevertheless, which has this name."""

    name: str
    find: Callable[[Database, Collection[int]], Collection[int]]  # which of these events
    why: str
    option: str = ""
    is_about_body: bool = False  # it counts only for what needs the body
