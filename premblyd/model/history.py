"""The history of the schema: which migrations a database has, and which it lacks.

A migration is a module of `migrations/`. It says `compatible = True` when daemons of the version
before go on working on what it leaves: it adds tables, columns that may be NULL, and indexes, and
keeps nobody waiting. Any other one raises the floor, which is kept in `schema_floor`: a program
that does not know that migration can't work on the database any more.
"""

import os
from pathlib import Path
from types import ModuleType

from peewee import Database
from playhouse.migrations import Migration, Runner

from premblyd.errors import CannotStartError, SchemaError
from premblyd.model.tables import SchemaFloor

MIGRATIONS = Path(__file__).with_name("migrations")
LOCK = "schema"  # a lock's name: who has it finds the schema, and who works on it, unchanged
MOVE = "move"  # a lock's name: `premblyd move` has it as long as it is at work
UNFINISHED_MOVE = "unfinished_move"  # a table that is there while `premblyd move` fills a database


def known() -> list[str]:
    """Return this program's migrations. Raise CannotStartError when they can't be read."""
    return [str(migration.name) for migration in _migrations()]


class History:
    """The migrations of a database beside those of this program. Raise CannotStartError when the
    program's can't be read, SchemaError for a database of which only half was moved there."""

    def __init__(self, database: Database, *, may_be_half_moved: bool = False) -> None:
        if not may_be_half_moved and database.table_exists(UNFINISHED_MOVE):
            raise SchemaError(
                "The database has only a part of what `premblyd move` brings to it. Run the same"
                " `premblyd move` again: it goes on where it stopped. Until then the old database"
                " is the true one."
            )
        self._database = database
        self._runner = Runner(database, str(MIGRATIONS))
        self.applied: set[str] = set(self._runner.applied())
        migrations = _migrations()
        self._known = {str(migration.name) for migration in migrations}
        self._pending = [
            migration for migration in migrations if migration.name not in self.applied
        ]
        self.newer = sorted(self.applied - self._known)  # that a newer premblyd has applied

    @property
    def pending(self) -> list[str]:
        """What the database lacks, in the order in which it is to be applied."""
        return [str(migration.name) for migration in self._pending]

    @property
    def can_work(self) -> bool:
        """Whether this program can work on the database although a newer one has changed it."""
        if not self.newer:
            return True
        return not self._pending and self._floor() in self._known

    def incompatible(self) -> list[str]:
        """Return which of the pending migrations older daemons don't survive."""
        return [str(each.name) for each in self._pending if not _is_compatible(each.load())]

    @property
    def next_runs_beside_others(self) -> bool:
        """Whether the next migration runs in no transaction (`atomic = False`), as what takes no
        table from others must: CREATE INDEX CONCURRENTLY."""
        return not getattr(self._pending[0].load(), "atomic", True)

    def apply(self) -> list[str]:
        """Apply what is pending; return which migrations these were."""
        return [self.apply_next() for _ in self.pending]

    def apply_next(self) -> str:
        """Apply the next of the pending migrations wholly, or not at all; return its name."""
        migration = self._pending[0]
        name = str(migration.name)
        if _is_compatible(migration.load()):
            self._runner.up(name)
        else:
            # The context is the runner's own; on SQLite it must be entered outside a transaction.
            with self._runner.migrator.migration_context(), self._database.atomic():
                self._runner.up(name)
                if self._database.table_exists(SchemaFloor):
                    SchemaFloor.update(migration=name).execute(self._database)
        del self._pending[0]
        return name

    def _floor(self) -> str | None:
        if not self._database.table_exists(SchemaFloor):
            return None
        row = SchemaFloor.select(SchemaFloor.migration).tuples().execute(self._database)
        return next((migration for (migration,) in row), None)


def _migrations() -> list[Migration]:
    if not os.access(MIGRATIONS, os.R_OK | os.X_OK):  # to the runner that is an empty folder
        raise CannotStartError(
            f"This premblyd may not read its own program in {MIGRATIONS}. Install it where this"
            " user may read it, or use another user."
        )
    return list(Migration.load_directory(str(MIGRATIONS)))


def _is_compatible(module: ModuleType) -> bool:
    return bool(getattr(module, "compatible", False))
