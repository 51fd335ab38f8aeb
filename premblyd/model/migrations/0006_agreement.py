"""Doubts, what Prembly's answers state and the names of a verification, claims with tokens, replays
of many, alerts that failed, and triggers that refuse a delivery or an attempt whose columns
contradict its state: see model/states.py."""

import re

from premblyd.model.history import add_to_event, is_sqlite, iso, run
from premblyd.model.states import install

compatible = True  # no premblyd writes such rows; an older one claims without a token

# What somebody wrote before there were triggers is mended where that is harmless; the rest ends
# dead. First, as it takes long beside many rows: what follows keeps everybody from the tables.
MENDED = """
UPDATE delivery SET finished_at_ms = NULL
WHERE state IN ('pending', 'running') AND finished_at_ms IS NOT NULL;
UPDATE delivery SET finished_at_ms = COALESCE(
    (SELECT max(finished_at_ms) FROM attempt WHERE delivery_id = delivery.id), created_at_ms
)
WHERE state NOT IN ('pending', 'running') AND finished_at_ms IS NULL;
UPDATE delivery SET waits_for_id = NULL, order_key = NULL, order_place = NULL, holds_order = FALSE
WHERE state NOT IN ('pending', 'running') AND (
    waits_for_id IS NOT NULL OR (order_key IS NULL) <> (order_place IS NULL) OR order_place < 1
    OR holds_order AND order_key IS NULL
);
UPDATE attempt SET finished_at_ms = started_at_ms
WHERE outcome IS NOT NULL AND finished_at_ms IS NULL;
UPDATE attempt SET outcome = 'interrupted' WHERE outcome IS NULL AND finished_at_ms IS NOT NULL;
"""

COLUMNS = """
ALTER TABLE delivery ADD COLUMN confirmed_facts TEXT;
ALTER TABLE delivery ADD COLUMN confirmed_key TEXT;
ALTER TABLE attempt ADD COLUMN claim_token TEXT;
ALTER TABLE operator_action ADD COLUMN part_of_id INTEGER;
ALTER TABLE inquiry ADD COLUMN wait_until_ms INTEGER;
ALTER TABLE awaited ADD COLUMN reference_key TEXT;
ALTER TABLE console_session ADD COLUMN password_sha256 TEXT;
ALTER TABLE host ADD COLUMN lost_after_ms INTEGER;
ALTER TABLE host ADD COLUMN forgotten_at_ms INTEGER;
"""

# `name`: a reference in its one spelling, or a session's digest. `verification`: the same for all
# names of a verification; one of them.
TABLES = """
CREATE TABLE verification_name (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    verification TEXT NOT NULL,
    at_ms INTEGER NOT NULL
);
CREATE INDEX verification_name_verification ON verification_name (verification);

CREATE TABLE alert_failure (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    failed_at_ms INTEGER NOT NULL,
    error TEXT,
    output TEXT
);
"""

# Those of 0.2.0's first days end before `doubt`, `confirmed_facts`, `wait_until`, `lost_after_ms`:
# so PostgreSQL can replace them, and who may read them still may.
VIEWS = f"""
CREATE VIEW event_log AS
SELECT id, key, {iso("received_at_ms")} AS received_at, endpoint, type, kind,
       response_code, status, outcome, verification_status, detail, reference, user_ref,
       face_match, face_confidence, risk_level, risk_score, remote_ip, verified_by, body_bytes,
       body_sha256, duplicate_count, {iso("last_duplicate_at_ms")}
       AS last_duplicate_at, doubt, reference_key
FROM event;

CREATE VIEW delivery_log AS
SELECT delivery.id, delivery.event_id, event.type, event.reference, event.response_code,
       event.outcome, delivery.action, delivery.state, delivery.attempt_count,
       delivery.attempts_left,
       {iso("delivery.created_at_ms")} AS created_at,
       {iso("delivery.due_at_ms")} AS due_at,
       {iso("delivery.finished_at_ms")} AS finished_at,
       {iso("delivery.confirmed_at_ms")} AS confirmed_at,
       delivery.confirmed_sha256, delivery.once_key, delivery.ran_instead_id, delivery.order_key,
       delivery.order_place, delivery.waits_for_id, delivery.holds_order, delivery.last_error,
       delivery.confirmed_facts, delivery.confirmed_key
FROM delivery JOIN event ON event.id = delivery.event_id;

CREATE VIEW inquiry_log AS
SELECT id, {iso("at_ms")} AS at, purpose, event_id, delivery_id, reference, result,
       http_status, error, duration_ms, answer_bytes, answer_sha256, stored_event_id,
       {iso("wait_until_ms")} AS wait_until
FROM inquiry;

CREATE VIEW host_log AS
SELECT id, worker, name, pid, version, {iso("started_at_ms")} AS started_at,
       {iso("seen_at_ms")} AS seen_at, {iso("ended_at_ms")} AS ended_at,
       ended, lost_after_ms, {iso("forgotten_at_ms")} AS forgotten_at
FROM host;
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, MENDED)
    add_to_event(db, "doubt TEXT", "reference_key TEXT")
    run(db, COLUMNS + TABLES)
    replacing = "DROP VIEW IF EXISTS {0}; CREATE VIEW {0}"
    making = replacing if is_sqlite(db) else "CREATE OR REPLACE VIEW {0}"
    run(db, re.sub(r"CREATE VIEW (\w+)", lambda found: making.format(found[1]), VIEWS))
    install(db)
