"""What Prembly's answer stated when it confirmed an event, the names of a verification, and until
when nothing more is asked."""

from premblyd.model.history import change_text, is_sqlite, run

compatible = True

# See 0002_inquiries.py: what stands after the body is slower to reach.
BODY = "body BLOB NOT NULL"
EVENT_COLUMN = "ALTER TABLE event ADD COLUMN reference_key TEXT;"

COLUMNS = """
ALTER TABLE delivery ADD COLUMN confirmed_facts TEXT;
ALTER TABLE delivery ADD COLUMN confirmed_key TEXT;
ALTER TABLE inquiry ADD COLUMN wait_until_ms INTEGER;
ALTER TABLE awaited ADD COLUMN reference_key TEXT;
CREATE INDEX awaited_reference_key ON awaited (reference_key) WHERE reference_key IS NOT NULL;
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
"""

ISO = "strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch')"

# New columns stand last, so that PostgreSQL can replace the views: who may read them still may.
VIEWS = f"""
CREATE VIEW event_log AS
SELECT id, key, {ISO.format(column="received_at_ms")} AS received_at, endpoint, type, kind,
       response_code, status, outcome, verification_status, detail, reference, user_ref,
       face_match, face_confidence, risk_level, risk_score, remote_ip, verified_by, body_bytes,
       body_sha256, duplicate_count, {ISO.format(column="last_duplicate_at_ms")}
       AS last_duplicate_at, doubt, reference_key
FROM event;

CREATE VIEW delivery_log AS
SELECT delivery.id, delivery.event_id, event.type, event.reference, event.response_code,
       event.outcome, delivery.action, delivery.state, delivery.attempt_count,
       delivery.attempts_left,
       {ISO.format(column="delivery.created_at_ms")} AS created_at,
       {ISO.format(column="delivery.due_at_ms")} AS due_at,
       {ISO.format(column="delivery.finished_at_ms")} AS finished_at,
       {ISO.format(column="delivery.confirmed_at_ms")} AS confirmed_at,
       delivery.confirmed_sha256, delivery.once_key, delivery.ran_instead_id, delivery.order_key,
       delivery.order_place, delivery.waits_for_id, delivery.holds_order, delivery.last_error,
       delivery.confirmed_facts, delivery.confirmed_key
FROM delivery JOIN event ON event.id = delivery.event_id;

CREATE VIEW inquiry_log AS
SELECT id, {ISO.format(column="at_ms")} AS at, purpose, event_id, delivery_id, reference, result,
       http_status, error, duration_ms, answer_bytes, answer_sha256, stored_event_id,
       {ISO.format(column="wait_until_ms")} AS wait_until
FROM inquiry;
"""
OLD_VIEWS = "DROP VIEW event_log; DROP VIEW delivery_log; DROP VIEW inquiry_log;"


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, COLUMNS + TABLES)
    if not is_sqlite(db):
        run(db, EVENT_COLUMN + VIEWS.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))
        return
    (has_events,) = db.execute_sql("SELECT EXISTS (SELECT 1 FROM event)").fetchone()
    if has_events:
        run(db, EVENT_COLUMN)
    else:
        change_text(db, "event", BODY, f"reference_key TEXT, {BODY}")
    run(db, OLD_VIEWS + VIEWS)
