"""Counts by the hour of what came and what ran, so that people need not wait for them to be counted
from a million events; an index of the dead; and when alerts were sent."""

from premblyd.model.history import is_sqlite, run

TABLES = """
CREATE TABLE event_hour (
    hour_ms INTEGER NOT NULL,
    type TEXT NOT NULL,
    response_code TEXT NOT NULL,
    outcome TEXT NOT NULL,
    events INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    unmatched INTEGER NOT NULL DEFAULT 0,
    part INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (hour_ms, type, response_code, outcome, part)
) WITHOUT ROWID;

CREATE TABLE attempt_hour (
    hour_ms INTEGER NOT NULL,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    bucket_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    part INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (hour_ms, action, outcome, bucket_ms, part)
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

# The least of 1 ms, 2, 3, 4, 6, 8, 12, 16, … that an attempt did not exceed.
BOUNDS = sorted({*(1 << power for power in range(36)), *(3 << power for power in range(34))})
CASES = " ".join(f"WHEN took <= {bound} THEN {bound}" for bound in BOUNDS)
BUCKET = f"CASE {CASES} ELSE {1 << 36} END"

# `part`: where several daemons count at once, each does in rows of its own, and none waits.
# Counted by the database, whoever ends an attempt. Nothing, where its delivery was deleted.
TRIGGER = f"""
CREATE TRIGGER attempt_counted AFTER UPDATE OF outcome ON attempt
WHEN OLD.outcome IS NULL AND NEW.outcome IS NOT NULL AND NEW.finished_at_ms IS NOT NULL
BEGIN
    INSERT INTO attempt_hour
    SELECT NEW.finished_at_ms / 3600000 * 3600000, action, NEW.outcome, {BUCKET}, 1, 0
    FROM (
        SELECT action, NEW.finished_at_ms - NEW.started_at_ms AS took
        FROM delivery WHERE id = NEW.delivery_id
    )
    WHERE true
    ON CONFLICT (hour_ms, action, outcome, bucket_ms, part) DO UPDATE SET attempts = attempts + 1;
END
"""

IN_POSTGRESQL = (
    f"""
CREATE FUNCTION count_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO attempt_hour
    SELECT NEW.finished_at_ms / 3600000 * 3600000, action, NEW.outcome, {BUCKET}, 1,
           COALESCE(
               NULLIF(current_setting('premblyd.part', true), '')::int, 64 + pg_backend_pid() % 64
           )
    FROM (
        SELECT action, NEW.finished_at_ms - NEW.started_at_ms AS took
        FROM delivery WHERE id = NEW.delivery_id
    ) AS found
    ON CONFLICT (hour_ms, action, outcome, bucket_ms, part)
    DO UPDATE SET attempts = attempt_hour.attempts + 1;
    RETURN NULL;
END $$
""",
    """
CREATE TRIGGER attempt_counted AFTER UPDATE OF outcome ON attempt FOR EACH ROW
WHEN (OLD.outcome IS NULL AND NEW.outcome IS NOT NULL AND NEW.finished_at_ms IS NOT NULL)
EXECUTE FUNCTION count_attempt()
""",
)

# What is there already. Of duplicates only the number of each event is known, so they are counted
# to the hour of their event.
FILLED = f"""
INSERT INTO event_hour
SELECT received_at_ms / 3600000 * 3600000, rolled_type(type), rolled_code(response_code), outcome,
       count(*), sum(duplicate_count),
       sum(NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.event_id = event.id)), 0
FROM event GROUP BY 1, 2, 3, 4;

INSERT INTO attempt_hour
SELECT finished_at_ms / 3600000 * 3600000, action, outcome, {BUCKET}, count(*), 0
FROM (
    SELECT attempt.finished_at_ms, action, outcome,
           attempt.finished_at_ms - started_at_ms AS took
    FROM attempt JOIN delivery ON delivery.id = attempt.delivery_id
    WHERE attempt.finished_at_ms IS NOT NULL AND attempt.outcome IS NOT NULL
)
GROUP BY 1, 2, 3, 4;
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, TABLES)
    if is_sqlite(db):
        db.execute_sql(TRIGGER)
        fill(db.connection())  # type: ignore[no-untyped-call]
    else:  # a new database, with nothing to count yet
        for sql in IN_POSTGRESQL:
            db.execute_sql(sql.replace("%", "%%"))


def fill(connection):  # type: ignore[no-untyped-def]
    """Count what is in the database."""
    from premblyd.model.rolled import rolled_code, rolled_type

    connection.create_function("rolled_code", 1, rolled_code, deterministic=True)
    connection.create_function("rolled_type", 1, rolled_type, deterministic=True)
    for sql in FILLED.split(";"):
        if sql.strip():
            connection.execute(sql)
