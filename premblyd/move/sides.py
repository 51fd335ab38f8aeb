"""What moving needs of a database, be it read or filled: what is the same in both engines' SQL, and
what each says its own way, in `move/sqlite.py` and `move/postgresql.py`.

No daemon works on it meanwhile. One that is read is as it was when it was opened.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from premblyd.engines.engine import Database
from premblyd.errors import PremblydError, TryAgainError
from premblyd.model.columns import ColumnType
from premblyd.model.schema import UNFINISHED_MOVE
from premblyd.move.rows import Key, Reference, Row, Table


class RowsRefusedError(PremblydError):
    """The database holds none of these rows, because of one of them; the text says which rule it
    broke."""


class SourceChangedError(TryAgainError):
    """Somebody has written to the database while it was moved. Move it again."""


class Side(ABC):
    """A database that is moved to another, or filled from one."""

    placeholder = "?"
    emptying = "DELETE FROM"  # a table
    byte_order = ""  # of texts: what stands behind a column's name

    def __init__(self, name: str, database: Database) -> None:
        self.name = name
        self.database = database

    @property
    def connection(self) -> Any:
        return self.database.connection()

    @abstractmethod
    def rows(self, table: Table, after: Key | None = None) -> Iterator[Row]:
        """Yield the rows of a table by the order of its key, those behind `after` alone."""

    @abstractmethod
    def last_number(self, table: Table) -> int | None:
        """Return the last id that was ever used, by a row that was deleted too; None where ids are
        not numbered so."""

    @abstractmethod
    def require_unchanged(self) -> None:
        """Raise SourceChangedError when somebody has written since it was opened. Nothing can be
        read any more then."""

    @abstractmethod
    def begin(self, tables: Sequence[Table], notes: Mapping[str, str]) -> None:
        """Empty the tables, and mark the database as one that is being filled: no daemon starts on
        it before `finish`."""

    @abstractmethod
    def put(self, table: Table, rows: Sequence[Row], notes: Mapping[str, str]) -> None:
        """Commit rows together with notes. Raise RowsRefusedError when one of them can't be
        held; then nothing was kept."""

    @abstractmethod
    def finish(self, last_numbers: Mapping[str, int]) -> None:
        """Make it a database on which daemons may work. `last_numbers`: of each table."""

    def count(self, table: Table) -> int:
        """Return how many rows a table has."""
        return int(self.value(f"SELECT count(*) FROM {quoted(table.name)}"))  # noqa: S608

    def last_row(self, table: Table) -> Row | None:
        """Return the row with the last key."""
        order = ", ".join(f"{column} DESC" for column in self._order(table))
        text = f"{_select(table)} ORDER BY {order} LIMIT 1"
        row: Row | None = self.connection.execute(text).fetchone()
        return row

    def orphans(self, table: Table, reference: Reference) -> list[int]:
        """Return ids of some rows that refer to a row that is not there."""
        rows = self.connection.execute(
            f"SELECT child.id FROM {quoted(table.name)} AS child"  # noqa: S608
            f" LEFT JOIN {quoted(reference.table)} AS parent"
            f" ON parent.id = child.{quoted(reference.column)}"
            f" WHERE child.{quoted(reference.column)} IS NOT NULL AND parent.id IS NULL"
            " ORDER BY child.id LIMIT 5"
        )
        return [id_ for (id_,) in rows.fetchall()]

    def notes(self) -> dict[str, str] | None:
        """Return what was noted of a move that is under way; None: there is none."""
        if not self.database.table_exists(UNFINISHED_MOVE):
            return None
        found = self.connection.execute(f"SELECT name, value FROM {UNFINISHED_MOVE}")  # noqa: S608
        return dict(found.fetchall())

    def mark(self, tables: Sequence[Table], notes: Mapping[str, str]) -> None:
        """Empty the tables, and note that they are being filled; to be run in a transaction."""
        text = "(name TEXT PRIMARY KEY, value TEXT NOT NULL)"
        self.connection.execute(f"CREATE TABLE IF NOT EXISTS {UNFINISHED_MOVE} {text}")
        for name in (UNFINISHED_MOVE, *(table.name for table in tables)):
            self.connection.execute(f"{self.emptying} {quoted(name)}")
        self.note(notes)

    def note(self, notes: Mapping[str, str]) -> None:
        """Keep notes for the next run; to be run in a transaction."""
        for name, value in notes.items():
            self.connection.execute(
                f"INSERT INTO {UNFINISHED_MOVE} VALUES ({self.placeholder}, {self.placeholder})"  # noqa: S608
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def unmark(self) -> None:
        """Let daemons work on it; to be run in a transaction."""
        self.connection.execute(f"DROP TABLE {UNFINISHED_MOVE}")

    def select_after(self, table: Table, after: Key | None) -> str:
        """Return a query for the rows behind a key, whose values are the query's."""
        order = ", ".join(self._order(table))
        marks = ", ".join(self.placeholder for _ in table.key)
        where = f" WHERE ({order}) > ({marks})" if after is not None else ""
        return f"{_select(table)}{where} ORDER BY {order}"

    def _order(self, table: Table) -> list[str]:
        texts = {each.column_name for each in table.columns if each.kind is ColumnType.TEXT}
        return [f"{quoted(name)}{self.byte_order if name in texts else ''}" for name in table.key]

    def value(self, text: str) -> Any:
        """Return what a query for one value finds; None for no row."""
        row = self.connection.execute(text).fetchone()
        return row[0] if row else None


def _select(table: Table) -> str:
    return f"SELECT {', '.join(map(quoted, table.names))} FROM {quoted(table.name)}"  # noqa: S608


def quoted(name: str) -> str:
    """Return the name of a table or column as SQL has it, were it one of its words."""
    return f'"{name}"'
