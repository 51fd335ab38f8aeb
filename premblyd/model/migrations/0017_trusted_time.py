"""The time from which periods count back, which no set clock moves far; and which events came while
the clock was behind it."""

from premblyd.model.history import run

compatible = True

TABLES = """
ALTER TABLE heartbeat ADD COLUMN trusted_ms INTEGER;
ALTER TABLE heartbeat ADD COLUMN trusted_start TEXT;
ALTER TABLE heartbeat ADD COLUMN trusted_uptime_ms INTEGER;
UPDATE heartbeat SET trusted_ms = alive_at_ms, trusted_start = machine_start,
    trusted_uptime_ms = COALESCE(uptime_ms, 0) WHERE id = 1;
CREATE TABLE kept_from (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id INTEGER NOT NULL UNIQUE,
    at_ms INTEGER NOT NULL
);
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, TABLES)
