"""Roll-ups of events and attempts that were put into a SQLite file by hand."""

import sqlite3

from premblyd.features.statistics.hooks import rolled_code, rolled_type
from premblyd.features.statistics.tables import BUCKET

EVENTS = """
INSERT INTO event_hour
SELECT received_at_ms / 3600000 * 3600000, rolled_type(type), rolled_code(response_code), outcome,
       count(*), sum(duplicate_count),
       sum(NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.event_id = event.id)), 0
FROM event GROUP BY 1, 2, 3, 4
"""
ATTEMPTS = f"""
INSERT INTO attempt_hour
SELECT finished_at_ms / 3600000 * 3600000, action, outcome, {BUCKET}, count(*), 0
FROM (
    SELECT attempt.finished_at_ms, action, outcome,
           attempt.finished_at_ms - started_at_ms AS took
    FROM attempt JOIN delivery ON delivery.id = attempt.delivery_id
    WHERE outcome IS NOT NULL
)
GROUP BY 1, 2, 3, 4
"""


def fill(connection: sqlite3.Connection) -> None:
    """Count all that is there."""
    connection.create_function("rolled_code", 1, rolled_code, deterministic=True)
    connection.create_function("rolled_type", 1, rolled_type, deterministic=True)
    for table, sql in (("event_hour", EVENTS), ("attempt_hour", ATTEMPTS)):
        connection.execute(f"DELETE FROM {table}")
        connection.execute(sql)
