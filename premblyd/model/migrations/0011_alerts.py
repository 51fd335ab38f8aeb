"""Alerts that could not be sent."""

from premblyd.model.history import run

compatible = True

TABLES = """
CREATE TABLE alert_failure (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    failed_at_ms INTEGER NOT NULL,
    error TEXT,
    output TEXT
);
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, TABLES)
