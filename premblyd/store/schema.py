"""The schema, made from the models: `python -m premblyd.store.schema` prints it in SQLite's SQL, as
it stands in schema.sql for people to read.

A database knows by a digest of that text which schema it has. Until a release the schema changes in
place: a program refuses a database with another one, with words. Nothing is migrated.
"""

import functools
import hashlib
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from peewee import Database

from premblyd.feature import added
from premblyd.ground.errors import SchemaError
from premblyd.store import tables
from premblyd.store.columns import Column, ColumnType, Reference, columns
from premblyd.store.table import RollUp
from premblyd.store.views import VIEWS

# The core's first: those of features refer to them.
TABLES: tuple[Any, ...] = (*tables.TABLES, *added("tables", "TABLES"))
NUMBER = 1
LOCK = "schema"  # a lock's name: who has it finds the schema, and who works on it, unchanged
MOVE = "move"  # a lock's name: `premblyd record move` has it as long as it is at work
RECORD = "record"  # its row says which schema this is
KEY_BYTES = 32
ID_BYTES = 4
_TYPES = {
    ColumnType.NUMBER: "INTEGER",
    ColumnType.MOMENT: "INTEGER",
    ColumnType.TRUTH: "INTEGER",
    ColumnType.REAL: "REAL",
    ColumnType.TEXT: "TEXT",
    ColumnType.JSON: "TEXT",
    ColumnType.BYTES: "BLOB",
}


def portable() -> Iterator[str]:
    """Yield the statements that all engines have, in SQLite's SQL."""
    for table in TABLES:
        yield _table(table)
        name = table._meta.table_name
        for index in table.indexes:
            own, _, on = index.removeprefix("UNIQUE ").partition(" ")
            unique = "UNIQUE " if index.startswith("UNIQUE ") else ""
            yield f"CREATE {unique}INDEX {name}_{own} ON {name} {on}"
    yield from VIEWS
    yield from added("tables", "VIEWS")


def in_sqlite() -> Iterator[str]:
    """Yield the statements that make the schema on SQLite."""
    yield from portable()
    yield from added("triggers", "IN_SQLITE")


@functools.cache
def script() -> str:
    """Return the whole schema in SQLite's SQL, as schema.sql has it."""
    return ";\n\n".join(in_sqlite()) + ";\n"


@functools.cache
def digest() -> str:
    """Return which schema this program has."""
    return hashlib.sha256(script().encode()).hexdigest()[:16]


def is_made(database: Database) -> bool:
    """Return whether the database has a schema."""
    return bool(database.table_exists(RECORD))


def make(database: Database, statements: Iterable[str]) -> None:
    """Make the schema in an empty database, by its engine's statements, in the transaction that is
    open."""
    for sql in statements:
        database.execute_sql(sql)
    values = ", ".join([database.param] * 4)
    database.execute_sql(
        f"INSERT INTO {RECORD} (schema_number, schema_digest, record_id, digest_key)"
        f" VALUES ({values})",
        (NUMBER, digest(), secrets.token_hex(ID_BYTES), secrets.token_bytes(KEY_BYTES)),
    )


def require_own(database: Database, name: str) -> bytes:
    """Return the key of the record's digests. Raise SchemaError when the database has no schema, or
    that of another build."""
    if not is_made(database):
        raise SchemaError(
            f"{name} has no record of premblyd's. Start the daemon once: it makes a new one."
        )
    row = database.execute_sql(f"SELECT schema_digest, digest_key FROM {RECORD}").fetchone()
    if row is None or row[0] != digest():
        raise SchemaError(
            f"{name} was made by another build of premblyd, whose tables are different. Use that"
            " build, or let `database` name a new database. Nothing was changed."
        )
    return bytes(row[1])


def _table(table: Any) -> str:
    lines = [_column(column) for column in columns(table)]
    if issubclass(table, RollUp):
        lines.append(f"PRIMARY KEY ({', '.join(table._meta.primary_key.field_names)})")
    lines += [f"UNIQUE ({unique})" for unique in table.unique]
    lines += [f"CHECK ({check})" for check in table.checks]
    strict = "STRICT, WITHOUT ROWID" if issubclass(table, RollUp) else "STRICT"
    body = ",\n    ".join(lines)
    return f"CREATE TABLE {table._meta.table_name} (\n    {body}\n) {strict}"


def _column(column: Column) -> str:
    if column.primary_key:
        return f"{column.column_name} INTEGER PRIMARY KEY AUTOINCREMENT"
    words = [column.column_name, _TYPES[column.kind]]
    if not column.null:
        words.append("NOT NULL")
    words += [constraint.sql for constraint in column.constraints or ()]
    if column.unique:
        words.append("UNIQUE")
    if isinstance(column, Reference):
        words.append(f"REFERENCES {column.rel_model._meta.table_name} (id)")
    return " ".join(words)


if __name__ == "__main__":
    print(script(), end="")  # noqa: T201
