"""Counts by the hour of what came and what ran, so that people need not wait for them to be counted
from a million events; an index of the dead; and when alerts were sent."""

TABLES = """
CREATE TABLE event_hour (
    hour_ms INTEGER NOT NULL,
    type TEXT NOT NULL,
    response_code TEXT NOT NULL,
    outcome TEXT NOT NULL,
    events INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    unmatched INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (hour_ms, type, response_code, outcome)
) WITHOUT ROWID;

CREATE TABLE attempt_hour (
    hour_ms INTEGER NOT NULL,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    bucket_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (hour_ms, action, outcome, bucket_ms)
) WITHOUT ROWID;

CREATE TABLE alert_sent (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    sent_at_ms INTEGER NOT NULL,
    UNIQUE (name, kind)
);

CREATE INDEX delivery_dead ON delivery (state, action) WHERE state = 'dead';
"""

# What is there already. Of duplicates only the number of each event is known, so they are counted
# to the hour of their event.
FILLED = """
INSERT INTO event_hour
SELECT received_at_ms / 3600000 * 3600000, rolled_type(type), rolled_code(response_code), outcome,
       count(*), sum(duplicate_count),
       sum(NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.event_id = event.id))
FROM event GROUP BY 1, 2, 3, 4;

INSERT INTO attempt_hour
SELECT attempt.finished_at_ms / 3600000 * 3600000, delivery.action, attempt.outcome,
       rolled_bucket(attempt.finished_at_ms - attempt.started_at_ms), count(*)
FROM attempt JOIN delivery ON delivery.id = attempt.delivery_id
WHERE attempt.finished_at_ms IS NOT NULL AND attempt.outcome IS NOT NULL GROUP BY 1, 2, 3, 4;
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    connection = db.connection()
    for sql in TABLES.split(";"):
        if sql.strip():
            connection.execute(sql)
    fill(connection)  # type: ignore[no-untyped-call]


def fill(connection):  # type: ignore[no-untyped-def]
    """Count what is in the database."""
    from premblyd.store.rollups import bucket_ms, rolled_code, rolled_type

    connection.create_function("rolled_code", 1, rolled_code, deterministic=True)
    connection.create_function("rolled_type", 1, rolled_type, deterministic=True)
    connection.create_function("rolled_bucket", 1, bucket_ms, deterministic=True)
    for sql in FILLED.split(";"):
        if sql.strip():
            connection.execute(sql)
