"""The schema on SQLite: bringing a database's up to this program's."""

from pathlib import Path

from peewee import SqliteDatabase

from premblyd.engines.sqlite.copies import clone
from premblyd.engines.sqlite.failures import translated
from premblyd.errors import PremblydError, SchemaError, StoreUnreadableError
from premblyd.model.history import History


def migrate(database: SqliteDatabase, path: Path) -> list[str]:
    """Apply to the database at `path` what it lacks; return which migrations these were.

    One that has a schema already is copied beside itself first. Raise SchemaError when a newer
    premblyd wrote it, StoreUnavailableError when it can't be migrated.
    """
    with translated():
        history = _history(database, path)
        if history.applied and history.pending:
            clone(path, path.with_name(f"{path.name}.before-{history.pending[0]}"))
        return history.apply()


def require_not_newer(database: SqliteDatabase, path: Path) -> None:
    """Raise SchemaError when a newer premblyd has changed the database at `path`,
    StoreUnavailableError when it can't be read."""
    with translated(StoreUnreadableError):
        _history(database, path)


def check_schema(database: SqliteDatabase, path: Path) -> None:
    """Raise SchemaError when the schema of the database at `path` is not this program's."""
    try:
        with translated(StoreUnreadableError):
            history = _history(database, path)
        if history.pending:
            raise SchemaError(
                f"{path} is older than this premblyd. Start the daemon once: it migrates."
            )
    except PremblydError:
        database.close()
        raise


def _history(database: SqliteDatabase, path: Path) -> History:
    """Return the database's history. Raise SchemaError for one that knows more than this
    program."""
    history = History(database)
    if newer := history.newer:
        raise SchemaError(
            f"{path} was written by a newer premblyd (it knows {', '.join(newer)})."
            f" Install that version again, or run `premblyd restore {path}.before-{newer[0]}`."
        )
    return history
