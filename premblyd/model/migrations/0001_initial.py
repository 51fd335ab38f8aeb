"""The first schema: events, deliveries, attempts, rejections, operator actions and two views."""

from premblyd.model.history import iso, run

TABLES = """
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    endpoint TEXT NOT NULL,
    received_at_ms INTEGER NOT NULL,
    remote_ip TEXT NOT NULL,
    token TEXT,
    headers TEXT NOT NULL,
    body_bytes INTEGER NOT NULL,
    body_sha256 TEXT NOT NULL,
    verified_by TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('api', 'sdk', 'raw')),
    response_code TEXT,
    status TEXT,
    detail TEXT,
    verification_status TEXT,
    outcome TEXT NOT NULL CHECK (outcome IN ('verified', 'not_verified', 'pending', 'unknown')),
    reference TEXT,
    user_ref TEXT,
    session_id TEXT,
    face_match INTEGER,
    face_confidence REAL,
    duplicate_count INTEGER NOT NULL DEFAULT 0,
    last_duplicate_at_ms INTEGER,
    body BLOB NOT NULL
);
CREATE INDEX event_received ON event (received_at_ms);
CREATE INDEX event_response_code ON event (response_code);
CREATE INDEX event_reference ON event (reference) WHERE reference IS NOT NULL;
CREATE INDEX event_user_ref ON event (user_ref) WHERE user_ref IS NOT NULL;

CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id INTEGER NOT NULL REFERENCES event (id),
    action TEXT NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('pending', 'running', 'succeeded', 'dead', 'cancelled')),
    due_at_ms INTEGER,
    attempt_count INTEGER NOT NULL DEFAULT 0,
    attempts_left INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER,
    last_error TEXT,
    CHECK ((due_at_ms IS NOT NULL) = (state IN ('pending', 'running')))
);
CREATE INDEX delivery_event ON delivery (event_id);
CREATE INDEX delivery_state ON delivery (state);
CREATE INDEX delivery_queue ON delivery (action, due_at_ms) WHERE due_at_ms IS NOT NULL;

CREATE TABLE attempt (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id INTEGER NOT NULL REFERENCES delivery (id),
    number INTEGER NOT NULL,
    worker TEXT NOT NULL,
    action_digest TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER,
    outcome TEXT CHECK (outcome IN ('succeeded', 'failed', 'timed_out', 'interrupted')),
    exit_code INTEGER,
    http_status INTEGER,
    error TEXT,
    output TEXT,
    output_truncated INTEGER NOT NULL DEFAULT 0,
    UNIQUE (delivery_id, number)
);

CREATE TABLE rejection (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    remote_ip TEXT NOT NULL,
    reason TEXT NOT NULL,
    body_bytes INTEGER,
    body_sha256 TEXT
);

CREATE TABLE operator_action (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    event_id INTEGER,
    delivery_id INTEGER,
    note TEXT
);

CREATE TABLE heartbeat (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL);
INSERT INTO heartbeat VALUES (1, 0);
"""

VIEWS = f"""
CREATE VIEW event_log AS
SELECT id, key, {iso("received_at_ms")} AS received_at, endpoint, kind,
       response_code, status, outcome, verification_status, detail, reference, user_ref,
       face_match, face_confidence, remote_ip, verified_by, body_bytes, body_sha256,
       duplicate_count, {iso("last_duplicate_at_ms")} AS last_duplicate_at
FROM event;

CREATE VIEW delivery_log AS
SELECT delivery.id, delivery.event_id, event.reference, event.response_code, event.outcome,
       delivery.action, delivery.state, delivery.attempt_count, delivery.attempts_left,
       {iso("delivery.created_at_ms")} AS created_at,
       {iso("delivery.due_at_ms")} AS due_at,
       {iso("delivery.finished_at_ms")} AS finished_at,
       delivery.last_error
FROM delivery JOIN event ON event.id = delivery.event_id;
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, TABLES + VIEWS)
