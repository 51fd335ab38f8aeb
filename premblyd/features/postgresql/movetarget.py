"""The PostgreSQL database that is filled, in one transaction."""

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

import psycopg
from peewee import Model
from psycopg import sql

from premblyd.features.postgresql.beacon import living
from premblyd.features.postgresql.failures import translated
from premblyd.features.postgresql.inspecting import require_usable
from premblyd.features.postgresql.movesource import Row
from premblyd.features.postgresql.opening import connect
from premblyd.features.postgresql.schema import become_owner, begin_move, end_move, prepare
from premblyd.features.postgresql.transaction import Connection
from premblyd.ground.databases import Server
from premblyd.ground.errors import AlreadyRunningError, PremblydError, StoreUnreadableError
from premblyd.store.columns import columns

# A daemon that has not ended is watched for so long at least: one that was killed is known by its
# beats alone.
WATCHED_S = 5.0
# What takes long here stands in nobody's way.
PATIENT = {"idle_in_transaction_session_timeout": "0", "statement_timeout": "0"}
_FOREIGN_KEYS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text = ANY(%s)
"""


class RowRefusedError(PremblydError):
    """PostgreSQL refuses a row; `number` counts the rows of its table from 1."""

    def __init__(self, number: int, rule: str) -> None:
        super().__init__(f"PostgreSQL refuses it ({rule})")
        self.number = number


class Target:
    """A database in the transaction that fills it."""

    def __init__(self, connection: Connection, tables: Collection[type[Model]]) -> None:
        self._connection = connection
        self._names = {table._meta.table_name for table in tables}
        self._keys: list[tuple[str, str, str]] = []

    def has_rows(self, table: type[Model]) -> bool:
        """Return whether there is anything in a table."""
        text = sql.SQL("SELECT 1 FROM {} LIMIT 1").format(_name(table))
        return self._connection.execute(text).fetchone() is not None

    def begin(self) -> None:
        """Empty the tables. Nobody else reads or writes them until the end. Rows may come in any
        order: PostgreSQL would also write to the row that each new one refers to."""
        self._keys = self._connection.execute(_FOREIGN_KEYS, ([*self._names],)).fetchall()
        self._alter("ALTER TABLE {} DROP CONSTRAINT {}")
        tables = sql.SQL(", ").join(map(sql.Identifier, self._names))
        self._connection.execute(sql.SQL("TRUNCATE {}").format(tables))

    def put(self, table: type[Model], rows: Iterable[Row]) -> None:
        """Store rows. Raise RowRefusedError for one that breaks a rule."""
        text = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)")
        try:
            with self._connection.cursor() as cursor:
                types = self._types(table)
                with cursor.copy(text.format(_name(table), _columns(table))) as copy:
                    copy.set_types(types)
                    for row in rows:
                        copy.write_row(row)
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            # Its text would quote the row.
            rule = error.diag.constraint_name or error.diag.column_name or error.sqlstate
            line = re.search(r"line (\d+)", error.diag.context or "")
            raise RowRefusedError(int(line[1]) if line else 1, f"{rule}") from None

    def rows(self, table: type[Model]) -> Iterator[Row]:
        """Yield the rows as they come: a cursor would gather all, or bodies by the hundred."""
        text = sql.SQL("COPY {} ({}) TO STDOUT (FORMAT BINARY)")
        types = self._types(table)
        with (
            self._connection.cursor() as cursor,
            cursor.copy(text.format(_name(table), _columns(table))) as copy,
        ):
            copy.set_types(types)
            yield from copy.rows()

    def finish(self, last_numbers: Mapping[str, int]) -> None:
        """Make it as a daemon makes it. `last_numbers`: the ids go on behind these."""
        self._alter("ALTER TABLE {} ADD CONSTRAINT {} {}")
        for table in last_numbers.keys() & self._names:
            text = "SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)"
            self._connection.execute(text, (table, last_numbers[table]))
        # Else the planner takes the tables for empty, until the server looks by itself.
        self._connection.execute("ANALYZE")

    def _alter(self, text: str) -> None:
        for table, name, definition in self._keys:
            names = sql.Identifier(table), sql.Identifier(name), sql.SQL(definition)
            self._connection.execute(sql.SQL(text).format(*names))

    def _types(self, table: type[Model]) -> list[int]:
        text = sql.SQL("SELECT {} FROM {} LIMIT 0").format(_columns(table), _name(table))
        return [column.type_code for column in self._connection.execute(text).description or ()]


@contextlib.contextmanager
def opened(server: Server, tables: Collection[type[Model]]) -> Iterator[Target]:
    """Open the database, with its schema. What is done within is committed in the end; until then
    no daemon starts. Raise AlreadyRunningError when one works on it, PremblydError when it can't be
    used."""
    with contextlib.closing(connect(server, **PATIENT)) as database:
        with translated(StoreUnreadableError):  # which knows of another user of the system
            connection: Connection = database.connection()
        require_usable(server)  # it can hold every text
        prepare(server)
        begin_move(connection, str(server))
        try:
            _require_no_daemon(connection, str(server))
            become_owner(connection)
            with connection.transaction():
                yield Target(connection, tables)
        finally:
            end_move(connection)


def _require_no_daemon(connection: Connection, name: str) -> None:
    if daemons := living(connection, WATCHED_S):
        named = "; ".join(f"{daemon.name}, process {daemon.pid}" for daemon in daemons)
        raise AlreadyRunningError(
            f"A daemon works on {name}: {named}. Stop it on its host: sudo systemctl stop"
            " premblyd.socket premblyd.service. Then run this again."
        )


def _name(table: type[Model]) -> sql.Identifier:
    return sql.Identifier(table._meta.table_name)


def _columns(table: type[Model]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.column_name) for column in columns(table))
