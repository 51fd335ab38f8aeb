"""Which actions' worker processes take nothing now."""

from premblyd.model.history import run

compatible = True

TABLES = """
CREATE TABLE halt (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    worker TEXT NOT NULL,
    action TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    UNIQUE (worker, action)
);
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, TABLES)
