"""The schema on PostgreSQL: which migrations it has, and bringing it up to this program's."""

from collections.abc import Sequence

from peewee import PostgresqlDatabase

from premblyd.errors import PremblydError, SchemaError, StoreUnreadableError
from premblyd.store.history import History
from premblyd.store.postgresql.failures import translated

_ONE_AT_A_TIME = 7_309_940_812  # an advisory lock's number: hosts that start together


def migrate(database: PostgresqlDatabase, name: str) -> list[str]:
    """Apply what the database lacks; return which migrations these were. Raise SchemaError when a
    newer premblyd wrote it, StoreUnavailableError when it can't be migrated."""
    with translated():
        connection = database.connection()
        connection.execute("SET lock_timeout = 0")
        connection.execute("SELECT pg_advisory_lock(%s)", [_ONE_AT_A_TIME])
        try:
            history = History(database)
            if newer := history.newer:
                raise SchemaError(_newer(name, newer))
            return history.apply()
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", [_ONE_AT_A_TIME])


def check_schema(database: PostgresqlDatabase, name: str) -> None:
    """Raise SchemaError when the schema of the database is not this program's."""
    try:
        with translated(StoreUnreadableError):
            history = History(database)
        if history.newer:
            raise SchemaError(_newer(name, history.newer))
        if history.pending:
            raise SchemaError(
                f"{name} is older than this premblyd, or empty. Start the daemon once: it migrates."
            )
    except PremblydError:
        database.close()
        raise


def _newer(name: str, newer: Sequence[str]) -> str:
    return (
        f"{name} was written by a newer premblyd (it knows {', '.join(newer)})."
        " Install that version."
    )
