"""What is removed when its time is over, what is held, and what was erased and stays so."""

import secrets

from premblyd.model.history import add_to_event, change_check, is_sqlite, iso, run

compatible = True  # the first erasure raises the floor: an older daemon would store the person anew

TABLES = """
CREATE TABLE hold (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_ref TEXT,
    reference TEXT,
    session_digest TEXT,
    at_ms INTEGER NOT NULL,
    until_ms INTEGER,
    actor TEXT NOT NULL,
    reason TEXT,
    ended_at_ms INTEGER,
    ended_by TEXT
);
CREATE INDEX hold_user_ref ON hold (user_ref)
    WHERE ended_at_ms IS NULL AND user_ref IS NOT NULL;
CREATE INDEX hold_reference ON hold (reference)
    WHERE ended_at_ms IS NULL AND reference IS NOT NULL;
CREATE INDEX hold_session_digest ON hold (session_digest)
    WHERE ended_at_ms IS NULL AND session_digest IS NOT NULL;

CREATE TABLE closing (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_ref TEXT NOT NULL UNIQUE,
    at_ms INTEGER NOT NULL,
    noted_at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL
);
CREATE INDEX closing_at ON closing (at_ms, id);

CREATE TABLE erasure (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    found_by TEXT NOT NULL,
    subject TEXT,
    events INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    gone_at_ms INTEGER
);
CREATE INDEX erasure_not_gone ON erasure (id) WHERE gone_at_ms IS NULL;
CREATE INDEX erasure_subject ON erasure (subject);

CREATE TABLE to_erase (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id INTEGER NOT NULL UNIQUE,
    erasure_id INTEGER NOT NULL,
    closed_at_ms INTEGER
);
CREATE INDEX to_erase_erasure ON to_erase (erasure_id, id);

CREATE TABLE erased_name (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    erasure_id INTEGER NOT NULL
);

CREATE TABLE digest_key (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL
);

CREATE TABLE removal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    day_ms INTEGER NOT NULL,
    removed TEXT NOT NULL,
    period_ms INTEGER NOT NULL,
    count INTEGER NOT NULL,
    freed_bytes INTEGER NOT NULL,
    UNIQUE (day_ms, removed, period_ms)
);

CREATE TABLE sweep (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    removed TEXT NOT NULL UNIQUE,
    at_ms INTEGER NOT NULL,
    row_id INTEGER NOT NULL
);

CREATE TABLE put_off (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id INTEGER NOT NULL,
    removed TEXT NOT NULL,
    UNIQUE (event_id, removed)
);
CREATE INDEX put_off_removed ON put_off (removed, id);

CREATE TABLE gone_event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    event_id INTEGER NOT NULL
);

ALTER TABLE host ADD COLUMN migration TEXT;

CREATE TABLE gone_once (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    action TEXT NOT NULL,
    once_key TEXT NOT NULL,
    delivery_id INTEGER NOT NULL,
    UNIQUE (once_key, action)
);
"""
STATES = "state IN ('waiting', 'settled', 'given_up')"
STATES_NOW = "state IN ('waiting', 'settled', 'given_up', 'erased')"
# `lacks` last, so that PostgreSQL can replace it, and who may read it still may.
VIEW = f"""
CREATE VIEW event_log AS
SELECT id, key, {iso("received_at_ms")} AS received_at, endpoint, type, kind,
       response_code, status, outcome, verification_status, detail, reference, user_ref,
       face_match, face_confidence, risk_level, risk_score, remote_ip, verified_by, body_bytes,
       body_sha256, duplicate_count, {iso("last_duplicate_at_ms")}
       AS last_duplicate_at, doubt, reference_key, lacks
FROM event
"""
KEY_BYTES = 32


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    names = ("lacks TEXT", "erasure_id INTEGER", "erased_name TEXT", "closed_at_ms INTEGER")
    add_to_event(db, *names)
    run(db, TABLES)
    key = f"INSERT INTO digest_key (key) VALUES ({db.param})"
    db.execute_sql(key, (secrets.token_bytes(KEY_BYTES),))
    change_check(db, "awaited", "awaited_state_check", STATES, STATES_NOW)
    if is_sqlite(db):
        db.execute_sql("DROP VIEW event_log")
        run(db, VIEW)
    else:
        run(db, VIEW.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))
