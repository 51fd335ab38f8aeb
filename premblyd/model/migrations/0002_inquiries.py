"""Types of events, deliveries that another ran instead of, and asking Prembly back."""

from premblyd.model.history import add_to_event, change_check, run

STATES = "state IN ('pending', 'running', 'succeeded', 'dead', 'cancelled')"
STATES_NOW = "state IN ('pending', 'running', 'succeeded', 'dead', 'cancelled', 'skipped')"

COLUMNS = """
ALTER TABLE delivery ADD COLUMN ran_instead_id INTEGER REFERENCES delivery (id);
ALTER TABLE delivery ADD COLUMN once_key TEXT;
ALTER TABLE delivery ADD COLUMN confirmed_at_ms INTEGER;
ALTER TABLE delivery ADD COLUMN confirmed_sha256 TEXT;
ALTER TABLE heartbeat ADD COLUMN alive_at_ms INTEGER;
ALTER TABLE heartbeat ADD COLUMN machine_start TEXT;
ALTER TABLE heartbeat ADD COLUMN uptime_ms INTEGER;
"""

TABLES = """
CREATE TABLE inquiry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    purpose TEXT NOT NULL CHECK (purpose IN ('confirm', 'pending', 'reconcile')),
    event_id INTEGER REFERENCES event (id),
    delivery_id INTEGER REFERENCES delivery (id),
    reference TEXT,
    result TEXT NOT NULL CHECK (result IN ('confirmed', 'contradicted', 'settled',
        'unsettled', 'not_found', 'refused', 'unavailable')),
    duration_ms INTEGER NOT NULL,
    http_status INTEGER,
    error TEXT,
    answer_bytes INTEGER,
    answer_sha256 TEXT,
    stored_event_id INTEGER REFERENCES event (id)
);
CREATE UNIQUE INDEX delivery_once ON delivery (once_key, action) WHERE once_key IS NOT NULL;
CREATE INDEX inquiry_event ON inquiry (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX inquiry_delivery ON inquiry (delivery_id) WHERE delivery_id IS NOT NULL;

CREATE TABLE awaited (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint TEXT NOT NULL,
    reference TEXT NOT NULL,
    event_id INTEGER NOT NULL REFERENCES event (id),
    state TEXT NOT NULL CHECK (state IN ('waiting', 'settled', 'given_up')),
    due_at_ms INTEGER,
    ask_count INTEGER NOT NULL DEFAULT 0,
    created_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER,
    settled_by_id INTEGER REFERENCES event (id),
    last_error TEXT,
    CHECK ((due_at_ms IS NOT NULL) = (state = 'waiting'))
);
CREATE INDEX awaited_due ON awaited (due_at_ms) WHERE due_at_ms IS NOT NULL;
CREATE INDEX awaited_reference ON awaited (reference);
CREATE INDEX awaited_event ON awaited (event_id);
CREATE INDEX awaited_given_up ON awaited (finished_at_ms) WHERE state = 'given_up';
CREATE INDEX event_unsettled ON event (received_at_ms)
    WHERE COALESCE(outcome, '') = 'pending' OR COALESCE(response_code, '') = '02';

CREATE TABLE downtime (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    from_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    reconciled_at_ms INTEGER
);
"""

# 0006_agreement.py makes all views, as they are now.
OLD_VIEWS = "DROP VIEW event_log; DROP VIEW delivery_log;"


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    add_to_event(db, "type TEXT", "risk_level TEXT", "risk_score REAL")
    change_check(db, "delivery", "delivery_state_check", STATES, STATES_NOW)
    run(db, COLUMNS + TABLES + OLD_VIEWS)
