"""Why a body that says VERIFIED verifies nobody."""

from premblyd.model.history import change_text, is_sqlite, run

compatible = True

# See 0002_inquiries.py: what stands after the body is slower to reach.
BODY = "body BLOB NOT NULL"
COLUMN = "ALTER TABLE event ADD COLUMN doubt TEXT;"

ISO = "strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch')"

# The new column stands last, so that PostgreSQL can replace the view: who may read it still may.
VIEW = f"""
CREATE VIEW event_log AS
SELECT id, key, {ISO.format(column="received_at_ms")} AS received_at, endpoint, type, kind,
       response_code, status, outcome, verification_status, detail, reference, user_ref,
       face_match, face_confidence, risk_level, risk_score, remote_ip, verified_by, body_bytes,
       body_sha256, duplicate_count, {ISO.format(column="last_duplicate_at_ms")}
       AS last_duplicate_at, doubt
FROM event;
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    if not is_sqlite(db):
        run(db, COLUMN + VIEW.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))
        return
    (has_events,) = db.execute_sql("SELECT EXISTS (SELECT 1 FROM event)").fetchone()
    if has_events:
        run(db, COLUMN)
    else:
        change_text(db, "event", BODY, f"doubt TEXT, {BODY}")
    run(db, "DROP VIEW event_log;" + VIEW)
