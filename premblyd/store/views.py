"""Views for people who type SQL: times as text, and no payload. Features have more, beside their
tables."""


def iso(column: str) -> str:
    """Return a column's time as text, in SQLite's SQL."""
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch')"


VIEWS = (
    f"""CREATE VIEW event_log AS
SELECT id, key, {iso("received_at_ms")} AS received_at, endpoint, type, kind,
       response_code, status, outcome, verification_status, detail, reference, user_ref,
       face_match, face_confidence, risk_level, risk_score, remote_ip, verified_by, body_bytes,
       body_digest, duplicate_count, {iso("last_duplicate_at_ms")} AS last_duplicate_at, doubt,
       reference_key, removed_parts
FROM event""",
    f"""CREATE VIEW delivery_log AS
SELECT delivery.id, delivery.event_id, event.type, event.reference, event.response_code,
       event.outcome, delivery.action, delivery.state, delivery.attempt_count,
       delivery.attempts_left, {iso("delivery.created_at_ms")} AS created_at,
       {iso("delivery.due_at_ms")} AS due_at, {iso("delivery.finished_at_ms")} AS finished_at,
       delivery.held_by, {iso("delivery.confirmed_at_ms")} AS confirmed_at,
       delivery.confirmed_digest, delivery.once_key, delivery.ran_instead_id, delivery.order_key,
       delivery.order_place, delivery.waits_for_id, delivery.blocks_order, delivery.last_error,
       delivery.confirmed_facts, delivery.confirmed_key
FROM delivery JOIN event ON event.id = delivery.event_id""",
    f"""CREATE VIEW attempt_log AS
SELECT attempt.id, attempt.delivery_id, delivery.event_id, delivery.action, attempt.number,
       attempt.worker, attempt.action_digest, {iso("attempt.started_at_ms")} AS started_at,
       {iso("attempt.finished_at_ms")} AS finished_at, attempt.outcome, attempt.exit_code,
       attempt.http_status, attempt.error
FROM attempt JOIN delivery ON delivery.id = attempt.delivery_id""",
    f"""CREATE VIEW host_log AS
SELECT id, worker, name, pid, version, {iso("started_at_ms")} AS started_at,
       {iso("seen_at_ms")} AS seen_at, {iso("ended_at_ms")} AS ended_at, ended, lost_after_ms,
       {iso("forgotten_at_ms")} AS forgotten_at
FROM host""",
)
