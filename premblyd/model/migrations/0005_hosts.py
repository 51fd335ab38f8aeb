"""Several daemons on one database, and deliveries of one reference in the order of receipt."""

from premblyd.model.history import change_check, is_sqlite, run

DUE = "(due_at_ms IS NOT NULL) = (state IN ('pending', 'running'))"
DUE_NOW = """
    (due_at_ms IS NULL OR state IN ('pending', 'running'))
    AND (due_at_ms IS NOT NULL OR waits_for_id IS NOT NULL OR state NOT IN ('pending', 'running'))
"""

# A daemon that works, or has worked, on this database. `worker` is its name in `attempt`. `place`:
# which start of which machine, and which of its name spaces, its `pid` is of; `process_start` tells
# it from a later process of that number. `actions`: the names in its configuration, a line each.
TABLES = """
CREATE TABLE host (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    worker TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    place TEXT,
    pid INTEGER NOT NULL,
    process_start INTEGER,
    version TEXT NOT NULL,
    actions TEXT NOT NULL DEFAULT '',
    started_at_ms INTEGER NOT NULL,
    seen_at_ms INTEGER NOT NULL,
    beat_count INTEGER NOT NULL DEFAULT 0,
    ended_at_ms INTEGER,
    ended TEXT CHECK (ended IN ('stopped', 'lost'))
);
CREATE TABLE schema_floor (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    migration TEXT NOT NULL
);
INSERT INTO schema_floor (migration) VALUES ('0005_hosts');

ALTER TABLE delivery ADD COLUMN order_key TEXT;
ALTER TABLE delivery ADD COLUMN order_place INTEGER;
ALTER TABLE delivery ADD COLUMN waits_for_id INTEGER;
ALTER TABLE delivery ADD COLUMN holds_order INTEGER NOT NULL DEFAULT 0;
CREATE INDEX delivery_order ON delivery (order_key, action, order_place) WHERE
    (state IN ('pending', 'running') OR (state = 'dead' AND holds_order));
CREATE INDEX delivery_waits ON delivery (waits_for_id) WHERE waits_for_id IS NOT NULL;
"""

# Whoever ends a delivery: the one that waits for it is due. Or, if it has waited itself, that one
# waits for what it has waited for.
IS_OVER = """
NEW.order_key IS NOT NULL AND OLD.state <> NEW.state
AND (NEW.state IN ('succeeded', 'cancelled', 'skipped')
     OR (NEW.state = 'dead' AND NOT NEW.holds_order))
"""
EARLIER = """(
    SELECT id FROM delivery WHERE id = OLD.waits_for_id
    AND (state IN ('pending', 'running') OR (state = 'dead' AND holds_order))
)"""
RELEASE = f"""
UPDATE delivery
SET waits_for_id = {EARLIER},
    due_at_ms = CASE WHEN {EARLIER} IS NULL THEN COALESCE(NEW.finished_at_ms, created_at_ms) END
WHERE waits_for_id = NEW.id AND state = 'pending'
"""
TRIGGER = f"""
CREATE TRIGGER order_released AFTER UPDATE OF state ON delivery WHEN {IS_OVER}
BEGIN
    {RELEASE};
END
"""
# The lock is that of queue/order.py, by its name: who adds to the order, or ends another one of it,
# does so before this or sees it. UPDATE reads what others have committed by then.
IN_POSTGRESQL = (
    """
CREATE FUNCTION lock_number(name text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT ('x' || encode(substr(sha256(convert_to(name, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint
$$
""",
    f"""
CREATE FUNCTION release_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(lock_number('order ' || NEW.order_key));
    {RELEASE};
    RETURN NULL;
END $$
""",
    f"""
CREATE TRIGGER order_released AFTER UPDATE OF state ON delivery FOR EACH ROW
WHEN ({IS_OVER}) EXECUTE FUNCTION release_order()
""",
)

# In SQLite an index ends with the row's id anyway.
QUEUE_INDEX = """
DROP INDEX delivery_queue;
CREATE INDEX delivery_queue ON delivery (action, due_at_ms, id) WHERE due_at_ms IS NOT NULL;
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, TABLES)
    change_check(db, "delivery", "delivery_check", DUE, DUE_NOW)
    if not is_sqlite(db):
        run(db, QUEUE_INDEX)
    for sql in (TRIGGER,) if is_sqlite(db) else IN_POSTGRESQL:
        db.execute_sql(sql)
