"""What a table is: beside its columns, what must be unique, what can't be (`checks`), and its
indexes, each as `name (columns)` with a condition, if it has one. schema.py makes it of that.

A check says what holds of a row by itself, and lists no words: to change one, SQLite would have to
write the table anew.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from peewee import Model

from premblyd.store.columns import PLAIN, Id, Kept


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
