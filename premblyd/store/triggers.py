"""The two triggers: one counts the attempts that ended, by the hour; one makes due, when a delivery
ends, what waited behind it by `order`. The database runs them whoever ends an attempt or a
delivery, in the same transaction."""

# The least of 1 ms, 2, 3, 4, 6, 8, 12, 16, … that an attempt did not exceed.
BOUNDS = sorted({*(1 << power for power in range(36)), *(3 << power for power in range(34))})
_CASES = " ".join(f"WHEN took <= {bound} THEN {bound}" for bound in BOUNDS)
BUCKET = f"CASE {_CASES} ELSE {1 << 36} END"
_COUNTED = """FROM (
        SELECT action, NEW.finished_at_ms - NEW.started_at_ms AS took
        FROM delivery WHERE id = NEW.delivery_id
    ) AS found
    WHERE true
    ON CONFLICT (hour_ms, action, outcome, bucket_ms, part)
    DO UPDATE SET attempts = attempt_hour.attempts + 1;"""
_HAS_ENDED = "OLD.outcome IS NULL AND NEW.outcome IS NOT NULL AND NEW.finished_at_ms IS NOT NULL"
_IS_OVER = """NEW.order_key IS NOT NULL AND OLD.state <> NEW.state
AND (NEW.state IN ('succeeded', 'cancelled', 'skipped')
     OR (NEW.state = 'dead' AND NOT NEW.blocks_order))"""
_EARLIER = """(
        SELECT id FROM delivery WHERE id = OLD.waits_for_id
        AND (state IN ('pending', 'running') OR (state = 'dead' AND blocks_order))
    )"""
# If it has waited itself, the one behind it waits for what it has waited for.
_RELEASE = f"""UPDATE delivery
    SET waits_for_id = {_EARLIER},
        due_at_ms = CASE WHEN {_EARLIER} IS NULL
            THEN COALESCE(NEW.finished_at_ms, created_at_ms) END
    WHERE waits_for_id = NEW.id AND state = 'pending';"""

IN_SQLITE = (
    f"""CREATE TRIGGER attempt_counted AFTER UPDATE OF outcome ON attempt
WHEN {_HAS_ENDED}
BEGIN
    INSERT INTO attempt_hour
    SELECT NEW.finished_at_ms / 3600000 * 3600000, action, NEW.outcome, {BUCKET}, 1, 0
    {_COUNTED}
END""",
    f"""CREATE TRIGGER order_released AFTER UPDATE OF state ON delivery WHEN {_IS_OVER}
BEGIN
    {_RELEASE}
END""",
)
# `part`: where several daemons count at once, each does in rows of its own, and none waits. The
# lock is that of features/turns/order.py, by its name: who adds to the order, or ends another one
# of it, does so before this or sees it. UPDATE reads what others have committed by then.
IN_POSTGRESQL = (
    """CREATE FUNCTION lock_number(name text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT ('x' || encode(substr(sha256(convert_to(name, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint
$$""",
    f"""CREATE FUNCTION count_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO attempt_hour
    SELECT NEW.finished_at_ms / 3600000 * 3600000, action, NEW.outcome, {BUCKET}, 1,
           COALESCE(
               NULLIF(current_setting('premblyd.part', true), '')::int, 64 + pg_backend_pid() % 64
           )
    {_COUNTED}
    RETURN NULL;
END $$""",
    f"""CREATE TRIGGER attempt_counted AFTER UPDATE OF outcome ON attempt FOR EACH ROW
WHEN ({_HAS_ENDED}) EXECUTE FUNCTION count_attempt()""",
    f"""CREATE FUNCTION release_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(lock_number('order ' || NEW.order_key));
    {_RELEASE}
    RETURN NULL;
END $$""",
    f"""CREATE TRIGGER order_released AFTER UPDATE OF state ON delivery FOR EACH ROW
WHEN ({_IS_OVER}) EXECUTE FUNCTION release_order()""",
)
