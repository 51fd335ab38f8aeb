"""A next version of this program: one that knows another migration."""

import shutil
from pathlib import Path

import pytest

from premblyd.model import history

NAME = "0099_more"
COMPATIBLE = """
compatible = True


def up(migrator, db):
    db.execute_sql("CREATE TABLE more (id bigint)")
    db.execute_sql("ALTER TABLE event ADD COLUMN more text")
"""
INCOMPATIBLE = """
def up(migrator, db):
    db.execute_sql("ALTER TABLE event ADD COLUMN more text NOT NULL DEFAULT ''")
    db.execute_sql("ALTER TABLE event ALTER COLUMN more DROP DEFAULT")
"""


class NextVersion:
    """The program with one migration more, whose module's text is `migration`."""

    def __init__(self, folder: Path, migration: str) -> None:
        self._migrations = folder / "migrations"
        shutil.copytree(history.MIGRATIONS, self._migrations)
        (self._migrations / f"{NAME}.py").write_text(migration)

    def be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make this process one of the next version."""
        monkeypatch.setattr(history, "MIGRATIONS", self._migrations)

    @property
    def before(self) -> str:
        """What a daemon runs first to be of the next version."""
        return (
            "from pathlib import Path\n"
            "from premblyd.model import history\n"
            f"history.MIGRATIONS = Path({str(self._migrations)!r})"
        )
