"""The schema, made from the models: `python -m premblyd.store.schema` prints it in SQLite's SQL, as
it stands in schema.sql for people to read.

The core has a part of it, and each feature: a database knows by digests of their texts which it
has. Until a release the schema changes in place: a program refuses a database in which one of its
parts is another, with words. Nothing is migrated.
"""

import functools
import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from peewee import Database

from premblyd.feature import added, installed
from premblyd.ground.errors import SchemaError
from premblyd.store import tables
from premblyd.store.columns import Column, ColumnType, Reference, RollUp, columns
from premblyd.store.tables import VIEWS

# The core's first: those of features refer to them.
TABLES: tuple[Any, ...] = (*tables.TABLES, *added("tables", "TABLES"))
NUMBER = 1
LOCK = "schema"  # a lock's name: who has it finds the schema unchanged
RECORD = "record"  # its row says which schema this is
PARTS = "schema_part"
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


def statements(part: str) -> Iterator[str]:
    """Yield the statements of a part that all engines have, in SQLite's SQL. "": the core's part;
    each feature has one by its name."""
    for table in added("tables", "TABLES", [part]) if part else tables.TABLES:
        yield _table(table)
        name = table._meta.table_name
        for index in table.indexes:
            own, _, on = index.removeprefix("UNIQUE ").partition(" ")
            unique = "UNIQUE " if index.startswith("UNIQUE ") else ""
            yield f"CREATE {unique}INDEX {name}_{own} ON {name} {on}"
    yield from added("tables", "VIEWS", [part]) if part else VIEWS


def in_sqlite(part: str) -> Iterator[str]:
    """Yield the statements that make a part on SQLite."""
    yield from statements(part)
    if part:
        yield from added("tables", "IN_SQLITE", [part])


def script(*names: str) -> str:
    """Return these parts, or the whole schema, in SQLite's SQL, as schema.sql has it."""
    return "\n".join(f"{sql};\n" for part in names or parts() for sql in in_sqlite(part))


def digest(part: str = "") -> str:
    """Return which schema this program has."""
    return hashlib.sha256(script(part).encode()).hexdigest()[:16]


@functools.cache
def parts() -> dict[str, str]:
    """Return the digests of the core's part, first, and of the installed features' that have one:
    they refer to the core's tables, and not to each other's."""
    return {part: digest(part) for part in ("", *installed()) if script(part)}


def is_made(database: Database) -> bool:
    """Return whether the database has a schema."""
    return bool(database.table_exists(RECORD))


def make(database: Database, names: Iterable[str], by: Callable[[str], Iterable[str]]) -> None:
    """Make parts of the schema by the engine's statements, in the transaction that is open."""
    for part in names:
        for sql in by(part):
            database.execute_sql(sql)
        table, values = PARTS, dict[str, Any](feature=part, digest=digest(part))
        if not part:
            key, own_id = secrets.token_bytes(KEY_BYTES), secrets.token_hex(ID_BYTES)
            table, values = RECORD, {"schema_number": NUMBER, "schema_digest": digest()}
            values |= {"record_id": own_id, "digest_key": key}
        marks = ", ".join([database.param] * len(values))
        text = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})"
        database.execute_sql(text, [*values.values()])


def lacking(database: Database, name: str) -> list[str]:
    """Return whose parts are still to be made. Those of features that are not installed are left
    alone. Raise SchemaError when the database has no schema, or that of another build."""
    if not is_made(database):
        raise SchemaError(
            f"{name} has no record of premblyd's. Start the daemon once: it makes a new one."
        )
    [found] = database.execute_sql(f"SELECT schema_digest FROM {RECORD}").fetchall() or [[None]]
    made = {"": found[0]}
    if found[0] == digest():
        made |= dict(database.execute_sql(f"SELECT feature, digest FROM {PARTS}").fetchall())
    if any(made.get(part, own) != own for part, own in parts().items()):
        raise SchemaError(
            f"{name} was made by another build of premblyd, whose tables are different. Use that"
            " build, or let `database` name a new database. Nothing was changed."
        )
    return [part for part in parts() if part not in made]


def require_own(database: Database, name: str) -> bytes:
    """Return the key of the record's digests. Raise SchemaError when this program's schema is not
    there whole."""
    if found := lacking(database, name):
        raise SchemaError(
            f"{name} lacks the tables of {', '.join(found)}. The daemon makes them as it starts."
        )
    return bytes(database.execute_sql(f"SELECT digest_key FROM {RECORD}").fetchone()[0])


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
        if column.on_delete:
            words.append(f"ON DELETE {column.on_delete}")
    return " ".join(words)


if __name__ == "__main__":
    print(script(), end="")  # noqa: T201
