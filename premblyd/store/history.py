"""The history of the schema: which migrations a database has, and which it lacks."""

import os
from pathlib import Path

from peewee import Database
from playhouse.migrations import Runner

from premblyd.errors import CannotStartError

MIGRATIONS = Path(__file__).with_name("migrations")


class History:
    """The migrations of a database beside those of this program. Raise CannotStartError when the
    program's can't be read."""

    def __init__(self, database: Database) -> None:
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
