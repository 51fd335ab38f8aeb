"""What a column is: said once, where the column is, in a `tables.py`.

Rows of lists, masks, JSON, CSV, what `move` brings over and the truth values of another engine are
made from it. Each column says what it holds, so that what is private is known before it is shown:
`Text(PERSONAL, shown=Shape.REFERENCE, null=True)`.

And what a table is: beside its columns, what must be unique, what can't be (`checks`), and its
indexes, each as `name (columns)` with a condition, if it has one. schema.py makes it of that. A
check says what holds of a row by itself, and lists no words: to change one, SQLite would have to
write the table anew.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Any, ClassVar

from peewee import (
    SQL,
    AutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    Case,
    Field,
    FloatField,
    ForeignKeyField,
    Model,
    Node,
    TextField,
)

from premblyd.ground.privacy import Shape


class Holds(StrEnum):
    """Which kind of personal data a column has."""

    PLAIN = "plain"  # nothing: premblyd or an operator made it, or it is said of very many
    PERSONAL = "personal"  # who somebody is, or it may be that
    SECRET = "secret"  # noqa: S105 (opens something at Prembly, or here)
    DIGEST = "digest"  # of something personal: who has that finds the row


class Kept(StrEnum):
    """For how long a column is kept: which period of `retention` empties it, or takes its row."""

    BODY = "body"  # as long as the body, or the row
    IDENTITY = "identity"  # as long as what names a person, or the row
    RECORD = "record"  # as long as the event that the row is, or is about
    REJECTIONS = "rejections"  # as long as the refused request that the row is
    UNTIL_ENDED = "until it ends"  # the hold, session, link or pause that the row is
    PERMANENT = "permanent"  # it names nobody, or must outlast what it is about


class Seen(IntEnum):
    """Where people see a column, by what they look at."""

    NOWHERE = 0  # it serves the daemon alone
    EVENT = 1  # one event, with all that became of it
    LISTS = 2  # and lists


class ColumnType(StrEnum):
    """The type of a column."""

    NUMBER = "whole number"
    MOMENT = "whole number of milliseconds"
    TRUTH = "truth value"
    REAL = "number"
    TEXT = "text"
    JSON = "JSON"
    BYTES = "byte string"


PLAIN, PERSONAL, SECRET, DIGEST = Holds
ZERO: list[Node] = [SQL("DEFAULT 0")]  # among the constraints of a column


class Column(Field):
    """A field that says what it is. `kept`: for how long; what is plain is kept as its table says,
    and what is not must say it. `shown`: in which shape people see it who may not see personal
    data; what is not plain is masked unless this says otherwise."""

    kind: ColumnType

    def __init__(
        self,
        holds: Holds,
        *more: Any,
        kept: Kept | None = None,
        shown: Shape | None = None,
        seen: Seen = Seen.LISTS,
        **options: Any,
    ) -> None:
        if kept is None and holds is not PLAIN:
            raise TypeError(f"{holds} data must say for how long it is kept")
        self.holds = holds
        self._kept = kept
        self.shown = shown or (Shape.PLAIN if holds is PLAIN else Shape.MASKED)
        self.seen = seen
        super().__init__(*more, **options)

    @property
    def kept(self) -> Kept:
        """For how long it is kept."""
        kept: Kept = self._kept or self.model.kept
        return kept

    @property
    def emptied(self) -> Any:
        """What it has when what it held is gone."""
        return None if self.null else _EMPTY[self.kind]


class Id(Column, AutoField):
    kind = ColumnType.NUMBER


class Reference(Column, ForeignKeyField):
    """The id of a row of another table; ids name nobody. `is_about`: the row is emptied with that
    one, and goes with it; else it refers to it no more. Peewee's own arguments follow."""

    kind = ColumnType.NUMBER

    def __init__(self, *more: Any, is_about: bool = True, **options: Any) -> None:
        self.is_about = is_about
        super().__init__(PLAIN, *more, **options)


class Number(Column, BigIntegerField):
    kind = ColumnType.NUMBER


class Moment(Column, BigIntegerField):
    kind = ColumnType.MOMENT


class Truth(Column, BooleanField):
    kind = ColumnType.TRUTH


class Real(Column, FloatField):
    kind = ColumnType.REAL


class Text(Column, TextField):
    kind = ColumnType.TEXT


class Json(Column, TextField):
    kind = ColumnType.JSON


class Bytes(Column, BlobField):
    kind = ColumnType.BYTES


_EMPTY = {ColumnType.TEXT: "", ColumnType.JSON: "[]", ColumnType.BYTES: b""}


def emptied(table: type[Model], *kept: Kept) -> dict[str, Any]:
    """Return what the columns of a table that are kept so long have afterwards, by their names:
    those that are not plain."""
    return {
        column.name: column.emptied
        for column in columns(table)
        if column.holds is not PLAIN and column.kept in kept
    }


def emptied_if(condition: Node, table: type[Model], values: Mapping[str, Any]) -> dict[Field, Any]:
    """Return what is written into columns of a table, by their names: under the condition nothing
    of people. What outlasts an event is not for this to decide."""
    fields = {column.column_name: column for column in columns(table)}
    empty = emptied(table, Kept.BODY, Kept.IDENTITY)
    return {
        fields[name]: Case(None, [(condition, empty[name])], value) if name in empty else value
        for name, value in values.items()
    }


def columns(table: type[Model], seen: Seen = Seen.NOWHERE) -> list[Column]:
    """Return the columns of a table that people see where they look at `seen`; all: NOWHERE."""
    return [column for column in table._meta.sorted_fields if column.seen >= seen]


class _Described(Model):
    kept: ClassVar[Kept]  # its rows, and what its columns say nothing else of
    is_moved: ClassVar[bool] = True  # False: who made its rows makes them anew after a move
    # What a row has while its event must stay whole, and once that is erased; with the time in
    # `finished_at_ms`, if it had not ended.
    waiting: ClassVar[Mapping[str, Any]] = {}
    stopped: ClassVar[Mapping[str, Any]] = {}
    # Of rows about no event: the column with a verification's reference, and the one with what an
    # operator wrote.
    named_by: ClassVar[str] = ""
    noted_in: ClassVar[str] = ""
    exported_as: ClassVar[str] = (
        ""  # what its rows are called in a copy of what is held of somebody
    )
    unique: ClassVar[tuple[str, ...]] = ()
    checks: ClassVar[tuple[str, ...]] = ()
    indexes: ClassVar[tuple[str, ...]] = ()

    class Meta:
        legacy_table_names = False


class Table(_Described):
    id = Id(PLAIN)


class RollUp(_Described):
    """A table of counts, kept in the transactions that make what they count."""

    kept = Kept.PERMANENT
