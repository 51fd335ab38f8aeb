"""Which actions an operator has paused."""

from premblyd.model.history import run

compatible = True

TABLES = """
CREATE TABLE pause (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    action TEXT NOT NULL UNIQUE,
    since_ms INTEGER NOT NULL,
    until_ms INTEGER,
    reason TEXT
);
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, TABLES)
