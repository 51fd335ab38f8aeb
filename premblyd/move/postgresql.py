"""A PostgreSQL database that is moved to a file, or filled from one."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence

import psycopg
from psycopg import sql

from premblyd.databases import Server
from premblyd.engines.postgresql.beacon import living
from premblyd.engines.postgresql.failures import HALF_MOVED, translated
from premblyd.engines.postgresql.inspecting import require_usable
from premblyd.engines.postgresql.opening import connect
from premblyd.engines.postgresql.schema import (
    become_owner,
    begin_move,
    connect_read_only,
    end_move,
    prepare,
)
from premblyd.engines.postgresql.transaction import Connection
from premblyd.errors import AlreadyRunningError, StoreUnreadableError
from premblyd.model.columns import ColumnType
from premblyd.move.rows import Key, Row, Table, moved_tables
from premblyd.move.sides import RowsRefusedError, Side, quoted

# A daemon that has not ended is watched for so long at least: one that was killed is known by its
# beats alone.
WATCHED_S = 5.0
# What takes long here stands in nobody's way.
PATIENT = {"idle_in_transaction_session_timeout": "0", "statement_timeout": "0"}
# The planner would rather sort all rows, on disk, than walk along the index: it knows nothing of a
# table that was filled just now.
_BY_INDEX = {"enable_sort": "off"}
_TYPES = {
    ColumnType.NUMBER: "int8",
    ColumnType.MOMENT: "int8",
    ColumnType.TRUTH: "bool",
    ColumnType.REAL: "float8",
    ColumnType.TEXT: "text",
    ColumnType.JSON: "text",
    ColumnType.BYTES: "bytea",
}
_FOREIGN_KEYS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text = ANY(%s)
"""
# A daemon that slept, or was cut off, while it was looked for, must not write what is emptied, or
# compared, later. A table is left open for the session that has this setting.
_REFUSE = f"""
CREATE OR REPLACE FUNCTION refuse_half_moved() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION 'premblyd move is under way' USING ERRCODE = '{HALF_MOVED}'; END$$
"""
_MAY_FILL = "premblyd.fills"
_REFUSE_IN = f"""
CREATE OR REPLACE TRIGGER refuse_half_moved BEFORE INSERT OR UPDATE OR DELETE ON {{}}
FOR EACH STATEMENT WHEN (current_setting('{_MAY_FILL}', true) IS DISTINCT FROM 'yes')
EXECUTE FUNCTION refuse_half_moved()
"""
_REFUSE_NO_MORE = "DROP FUNCTION IF EXISTS refuse_half_moved CASCADE"


class PostgresqlSide(Side):
    """See move.sides.Side."""

    placeholder = "%s"
    emptying = "TRUNCATE"
    byte_order = ' COLLATE "C"'

    def rows(self, table: Table, after: Key | None = None) -> Iterator[Row]:
        """Yield rows as they come: a cursor would gather all, or bodies by the hundred."""
        text = f"COPY ({self.select_after(table, after)}) TO STDOUT (FORMAT BINARY)"
        with self.connection.cursor() as cursor, cursor.copy(text, after) as copy:
            copy.set_types(_types(table))
            yield from copy.rows()

    def last_number(self, table: Table) -> int | None:
        sequence = self._sequence(table.name)
        if sequence is None:
            return None
        number: int | None = self.value(
            f"SELECT CASE WHEN is_called THEN last_value END FROM {sequence}"  # noqa: S608
        )
        return number

    def _sequence(self, table: str) -> str | None:
        """Return what numbers the rows of a table."""
        has_id = self.value(
            "SELECT 1 FROM pg_attribute"  # noqa: S608
            f" WHERE attrelid = '{quoted(table)}'::regclass AND attname = 'id'"
        )
        if not has_id:
            return None
        name: str | None = self.value(f"SELECT pg_get_serial_sequence('{quoted(table)}', 'id')")
        return name

    def begin_reading(self) -> None:
        """Read it as it is now, and let nobody write until the end."""
        tables = ", ".join(quoted(table.name) for table in moved_tables())
        self.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self.connection.execute(f"LOCK TABLE {tables} IN SHARE MODE")

    def require_unchanged(self) -> None:
        self.connection.execute("COMMIT")  # nobody could write

    def begin(self, tables: Sequence[Table], notes: Mapping[str, str]) -> None:
        noted = self.notes() or {}
        with self.connection.transaction():
            keys = noted.get("foreign keys") or self._drop_foreign_keys(tables)
            self.mark(tables, {**notes, "foreign keys": keys})
            self.connection.execute(_REFUSE)
            for table in tables:
                text = sql.SQL(_REFUSE_IN).format(sql.Identifier(table.name))
                self.connection.execute(text)

    def _drop_foreign_keys(self, tables: Sequence[Table]) -> str:
        """Let rows come in any order, and return what `finish` needs. PostgreSQL would also write
        to the row that each new one refers to."""
        names = [table.name for table in tables]
        found = self.connection.execute(_FOREIGN_KEYS, (names,)).fetchall()
        for table, name, _ in found:
            self.connection.execute(_alter("ALTER TABLE {} DROP CONSTRAINT {}", table, name))
        return json.dumps(found)

    def put(self, table: Table, rows: Sequence[Row], notes: Mapping[str, str]) -> None:
        columns = ", ".join(map(quoted, table.names))
        text = f"COPY {quoted(table.name)} ({columns}) FROM STDIN (FORMAT BINARY)"
        try:
            with self.connection.transaction():
                with self.connection.cursor() as cursor, cursor.copy(text) as copy:
                    copy.set_types(_types(table))
                    for row in rows:
                        copy.write_row(row)
                self.note(notes)
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            # Its text would quote the row.
            rule = error.diag.constraint_name or error.diag.column_name or error.sqlstate
            reason = f"PostgreSQL refuses it ({type(error).__name__} of {rule})"
            raise RowsRefusedError(reason) from None

    def finish(self, last_numbers: Mapping[str, int]) -> None:
        # Else the planner takes the tables for empty, until the server looks by itself.
        tables = ", ".join(quoted(table.name) for table in moved_tables())
        self.connection.execute(f"ANALYZE {tables}")
        keys = json.loads((self.notes() or {})["foreign keys"])
        with self.connection.transaction():
            self.connection.execute(_REFUSE_NO_MORE)
            for table, name, definition in keys:
                text = "ALTER TABLE {} ADD CONSTRAINT {} "
                self.connection.execute(_alter(text, table, name) + sql.SQL(definition))
            for table, number in last_numbers.items():
                sequence = self._sequence(table)
                self.connection.execute("SELECT setval(%s, %s)", (sequence, number))
            self.unmark()


@contextlib.contextmanager
def source(server: Server) -> Iterator[PostgresqlSide]:
    """Open the database to be moved. Raise AlreadyRunningError while a daemon works on it. Until
    the end none starts on it."""
    connect_read_only(server).close()  # it looks at the schema
    reading = connect(server, **PATIENT, **_BY_INDEX)
    with contextlib.closing(reading) as database:
        opened = PostgresqlSide(str(server), database)
        with _alone(database.connection(), str(server)):  # the owner sees the tables' last numbers
            opened.begin_reading()
            yield opened


@contextlib.contextmanager
def target(server: Server) -> Iterator[PostgresqlSide]:
    """Open the database to be filled, with its schema. Raise AlreadyRunningError while a daemon
    works on it. Until the end none starts on it."""
    filling = {**PATIENT, **_BY_INDEX, _MAY_FILL: "yes"}
    with contextlib.closing(connect(server, **filling)) as database:
        with translated(StoreUnreadableError):  # which knows of another user of the system
            database.connection()
        opened = PostgresqlSide(str(server), database)
        require_usable(server)  # it can hold every text
        if opened.notes() is None:
            prepare(server)
        with _alone(database.connection(), str(server)):  # the owner drops keys, and empties
            yield opened


@contextlib.contextmanager
def _alone(connection: Connection, name: str) -> Iterator[None]:
    """Own the tables, and let no daemon start. Raise AlreadyRunningError while one works."""
    begin_move(connection, name)
    try:
        require_no_daemon(connection, name)
        become_owner(connection)
        yield
    finally:
        end_move(connection)


def require_no_daemon(connection: Connection, name: str) -> None:
    """Raise AlreadyRunningError when a daemon works on the database."""
    if daemons := living(connection, watched_s=WATCHED_S, fresh_only=True):
        named = "; ".join(f"{daemon.name}, process {daemon.pid}" for daemon in daemons)
        raise AlreadyRunningError(
            f"A daemon works on {name}: {named}. Stop it on its host: sudo systemctl stop"
            " premblyd.socket premblyd.service. Then run this again."
        )


def _types(table: Table) -> list[str]:
    return [_TYPES[column.kind] for column in table.columns]


def _alter(text: str, table: str, constraint: str) -> sql.Composed:
    names = sql.Identifier(table), sql.Identifier(constraint)
    return sql.SQL(text).format(*names)
