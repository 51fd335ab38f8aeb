"""The schema: which migrations a database has, and bringing it up to this program's."""

import os
from pathlib import Path

from peewee import SqliteDatabase
from playhouse.migrations import Runner

from premblyd.errors import (
    CannotStartError,
    PremblydError,
    SchemaError,
    StoreUnreadableError,
)
from premblyd.store.sqlite.copies import clone
from premblyd.store.sqlite.failures import translated

MIGRATIONS = Path(__file__).parents[1] / "migrations"


def migrate(database: SqliteDatabase, path: Path) -> list[str]:
    """Apply to the database at `path` what it lacks; return which migrations these were.

    One that has a schema already is copied beside itself first. Raise SchemaError when a newer
    premblyd wrote it, StoreUnavailableError when it can't be migrated.
    """
    with translated():
        runner = Runner(database, str(MIGRATIONS))
        applied, pending = _compare(runner, path)
        if applied and pending:
            clone(path, path.with_name(f"{path.name}.before-{pending[0]}"))
        return [str(name) for name in runner.up()]


def check_schema(database: SqliteDatabase, path: Path) -> None:
    """Raise SchemaError when the schema of the database at `path` is not this program's."""
    try:
        with translated(StoreUnreadableError):
            _, pending = _compare(Runner(database, str(MIGRATIONS)), path)
        if pending:
            raise SchemaError(
                f"{path} is older than this premblyd. Start the daemon once: it migrates."
            )
    except PremblydError:
        database.close()
        raise


def _compare(runner: Runner, path: Path) -> tuple[set[str], list[str]]:
    """Return which migrations are applied and which are pending. Raise SchemaError for a
    database that knows more than this program."""
    applied = set(runner.applied())
    if not os.access(MIGRATIONS, os.R_OK | os.X_OK):  # to the runner that is an empty folder
        raise CannotStartError(
            f"This premblyd may not read its own program in {MIGRATIONS}. Install it where this"
            " user may read it, or use another user."
        )
    known = [str(migration.name) for migration in runner.migrations()]
    if newer := sorted(applied - set(known)):
        raise SchemaError(
            f"{path} was written by a newer premblyd (it knows {', '.join(newer)})."
            f" Install that version again, or restore the copy {path}.before-{newer[0]}."
        )
    return applied, [name for name in known if name not in applied]
