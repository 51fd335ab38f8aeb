"""Counts by the hour."""

from peewee import CompositeKey

from premblyd.store.columns import PLAIN, ZERO, Moment, Number, RollUp, Text


class EventHour(RollUp):
    """The webhooks of an hour that were alike."""

    hour_ms = Moment(PLAIN)
    type = Text(PLAIN)  # empty: none
    response_code = Text(PLAIN)  # empty: missing
    outcome = Text(PLAIN)
    events = Number(PLAIN, constraints=ZERO)
    duplicates = Number(PLAIN, constraints=ZERO)
    unmatched = Number(PLAIN, constraints=ZERO)  # of the events: those without a delivery
    part = Number(PLAIN, constraints=ZERO)  # daemons that count at once do in rows of their own

    class Meta:
        primary_key = CompositeKey("hour_ms", "type", "response_code", "outcome", "part")


class AttemptHour(RollUp):
    """The attempts that ended in an hour, of one action, in the same way, after about as long."""

    hour_ms = Moment(PLAIN)
    action = Text(PLAIN)
    outcome = Text(PLAIN)
    bucket_ms = Number(PLAIN)  # none took longer: see lower_bound_ms
    attempts = Number(PLAIN, constraints=ZERO)
    part = Number(PLAIN, constraints=ZERO)

    class Meta:
        primary_key = CompositeKey("hour_ms", "action", "outcome", "bucket_ms", "part")


TABLES = (EventHour, AttemptHour)


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

IN_SQLITE = (
    f"""CREATE TRIGGER attempt_counted AFTER UPDATE OF outcome ON attempt
WHEN {_HAS_ENDED}
BEGIN
    INSERT INTO attempt_hour
    SELECT NEW.finished_at_ms / 3600000 * 3600000, action, NEW.outcome, {BUCKET}, 1, 0
    {_COUNTED}
END""",
)
# `part`: where several daemons count at once, each does in rows of its own, and none waits.
IN_POSTGRESQL = (
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
)
