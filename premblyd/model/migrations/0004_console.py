"""The console: links to sign in by, sessions, and indexes that its lists are read by."""

from premblyd.model.history import run

TABLES = """
CREATE TABLE console_link (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL UNIQUE,
    actor TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
);
CREATE TABLE console_session (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL UNIQUE,
    actor TEXT NOT NULL,
    remote_ip TEXT NOT NULL,
    began_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
);
CREATE INDEX event_outcome ON event (outcome);
CREATE INDEX event_type ON event (type);
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, TABLES)
