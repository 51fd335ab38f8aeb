"""What certificates of completeness have said of each day."""

from premblyd.model.history import run

compatible = True

TABLES = """
CREATE TABLE certificate (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    day_ms INTEGER NOT NULL,
    made_at_ms INTEGER NOT NULL,
    is_complete INTEGER NOT NULL,
    said TEXT NOT NULL
);
CREATE INDEX certificate_day ON certificate (day_ms, id);
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, TABLES)
