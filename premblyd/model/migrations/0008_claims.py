"""Each claim has a token of its own; a host's row says when it counts as lost, and when somebody
has ended it for good."""

from premblyd.model.history import run

compatible = True  # an older daemon claims without a token, and reports by number

COLUMNS = """
ALTER TABLE attempt ADD COLUMN claim_token TEXT;
ALTER TABLE host ADD COLUMN lost_after_ms INTEGER;
ALTER TABLE host ADD COLUMN forgotten_at_ms INTEGER;
"""

ISO = "strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch')"

VIEW = f"""
DROP VIEW host_log;
CREATE VIEW host_log AS
SELECT id, worker, name, pid, version, {ISO.format(column="started_at_ms")} AS started_at,
       {ISO.format(column="seen_at_ms")} AS seen_at, {ISO.format(column="ended_at_ms")} AS ended_at,
       ended, lost_after_ms, {ISO.format(column="forgotten_at_ms")} AS forgotten_at
FROM host;
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, COLUMNS + VIEW)
