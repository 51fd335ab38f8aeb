"""The history of the schema: which migrations a database has, and which it lacks."""

import os
from pathlib import Path

from peewee import Database
from playhouse.migrations import Runner

from premblyd.errors import CannotStartError, SchemaError

MIGRATIONS = Path(__file__).with_name("migrations")
UNFINISHED_MOVE = "unfinished_move"  # a table that is there while `premblyd move` fills a database


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
        self._runner = Runner(database, str(MIGRATIONS))
        self.applied: set[str] = set(self._runner.applied())
        if not os.access(MIGRATIONS, os.R_OK | os.X_OK):  # to the runner that is an empty folder
            raise CannotStartError(
                f"This premblyd may not read its own program in {MIGRATIONS}. Install it where this"
                " user may read it, or use another user."
            )
        known = [str(migration.name) for migration in self._runner.migrations()]
        self.newer = sorted(self.applied.difference(known))  # that a newer premblyd has applied
        self.pending = [name for name in known if name not in self.applied]

    def apply(self) -> list[str]:
        """Apply what is pending; return which migrations these were."""
        return [str(name) for name in self._runner.up()]
