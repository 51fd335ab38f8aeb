"""The tables of the core, as Peewee models. Those of a feature are in its `tables.py`; schema.py
makes the schema of all.

Times are integer Unix milliseconds, UTC.
"""

from peewee import SQL, fn

from premblyd.ground.privacy import Shape
from premblyd.store.columns import (
    DIGEST,
    PERSONAL,
    PLAIN,
    SECRET,
    ZERO,
    Bytes,
    Json,
    Kept,
    Moment,
    Number,
    Real,
    Reference,
    Seen,
    Table,
    Text,
    Truth,
)


class Event(Table):
    """One authentic webhook, stored exactly as received."""

    kept = Kept.RECORD
    key = Text(DIGEST, kept=Kept.PERMANENT, shown=Shape.PLAIN, unique=True)
    endpoint = Text(PLAIN)
    received_at_ms = Moment(PLAIN)
    remote_ip = Text(PERSONAL, kept=Kept.IDENTITY, shown=Shape.PLAIN)
    token = Text(SECRET, kept=Kept.IDENTITY, seen=Seen.EVENT, null=True)
    # [[name, value], …]; no signature, token, credential.
    headers = Json(PERSONAL, kept=Kept.BODY, seen=Seen.EVENT)
    body_bytes = Number(PLAIN)
    # Keyed, as all digests are: see queue/digests.py.
    body_digest = Text(DIGEST, kept=Kept.RECORD, shown=Shape.PLAIN)
    verified_by = Text(PLAIN)
    kind = Text(PLAIN)
    response_code = Text(PLAIN, shown=Shape.CODE, null=True)
    status = Text(PLAIN, shown=Shape.WORD, null=True)
    detail = Text(PERSONAL, kept=Kept.IDENTITY, shown=Shape.SENTENCE, null=True)
    verification_status = Text(PLAIN, shown=Shape.WORD, null=True)
    outcome = Text(PLAIN)
    reference = Text(PERSONAL, kept=Kept.IDENTITY, shown=Shape.REFERENCE, null=True)
    user_ref = Text(PERSONAL, kept=Kept.IDENTITY, shown=Shape.REFERENCE, null=True)
    session_id = Text(SECRET, kept=Kept.IDENTITY, seen=Seen.EVENT, null=True)
    face_match = Truth(PLAIN, null=True)
    face_confidence = Real(PLAIN, shown=Shape.NUMBER, null=True)
    duplicate_count = Number(PLAIN, constraints=ZERO)
    last_duplicate_at_ms = Moment(PLAIN, null=True)
    type = Text(PLAIN, shown=Shape.TYPE)
    risk_level = Text(PLAIN, shown=Shape.WORD, null=True)
    risk_score = Real(PLAIN, shown=Shape.NUMBER, null=True)
    doubt = Text(PLAIN)  # empty: none
    # The reference in the spelling that all spellings of a UUID have in common; NULL: it has that.
    reference_key = Text(PERSONAL, kept=Kept.IDENTITY, seen=Seen.NOWHERE, null=True)
    # What it has no more, see Lacks. NULL: it has everything.
    removed_parts = Text(PLAIN, null=True)
    # Last, so that SQLite need not walk a photo to reach another column.
    body = Bytes(PERSONAL, kept=Kept.BODY, seen=Seen.EVENT, null=True)  # NULL: removed

    indexes = (
        "received (received_at_ms)",
        "response_code (response_code)",
        "outcome (outcome)",
        "type (type)",
        "reference (reference) WHERE reference IS NOT NULL",
        "reference_key (reference_key) WHERE reference_key IS NOT NULL",
        "user_ref (user_ref) WHERE user_ref IS NOT NULL",
        "session (session_id) WHERE session_id IS NOT NULL",
        "doubted (received_at_ms) WHERE doubt != ''",
    )


class Delivery(Table):
    """One event for one action: the queue entry."""

    kept = Kept.RECORD
    event = Reference(Event, column_name="event_id")
    action = Text(PLAIN)
    state = Text(PLAIN)
    due_at_ms = Moment(PLAIN, null=True)  # the queue: NULL is out of it
    # Of all attempts ever, replays' too.
    attempt_count = Number(PLAIN, constraints=ZERO)
    attempts_left = Number(PLAIN)
    created_at_ms = Moment(PLAIN)
    finished_at_ms = Moment(PLAIN, null=True)
    last_error = Text(PERSONAL, kept=Kept.IDENTITY, shown=Shape.ERROR, null=True)
    # Of a skipped one: the delivery that succeeded in its place.
    ran_instead = Reference("self", column_name="ran_instead_id", null=True, is_about=False)
    # What keeps a pending one from being due: the name of the feature that will make it due again.
    held_by = Text(PLAIN, seen=Seen.NOWHERE, null=True)

    checks = (
        "(finished_at_ms IS NULL) = (state IN ('pending', 'running'))",
        "(due_at_ms IS NOT NULL) = (state = 'running' OR (state = 'pending' AND held_by IS NULL))",
        "attempt_count >= 0 AND attempts_left >= 0",
    )
    indexes = (
        "event (event_id)",
        "state (state)",
        "dead (state, action) WHERE state = 'dead'",
        "queue (action, due_at_ms) WHERE due_at_ms IS NOT NULL",
        "held (held_by, action) WHERE held_by IS NOT NULL",
        "ran_instead (ran_instead_id) WHERE ran_instead_id IS NOT NULL",
    )


class Attempt(Table):
    """One run of the action's hook for a delivery. Open (no outcome) while it runs."""

    kept = Kept.RECORD
    delivery = Reference(Delivery, column_name="delivery_id")
    number = Number(PLAIN)
    worker = Text(PLAIN)
    action_digest = Text(PLAIN)
    started_at_ms = Moment(PLAIN)
    finished_at_ms = Moment(PLAIN, null=True)
    outcome = Text(PLAIN, null=True)
    exit_code = Number(PLAIN, null=True)
    http_status = Number(PLAIN, null=True)
    error = Text(PERSONAL, kept=Kept.IDENTITY, shown=Shape.ERROR, null=True)
    output = Text(PERSONAL, kept=Kept.BODY, seen=Seen.EVENT, null=True)
    output_truncated = Truth(PLAIN, constraints=ZERO)
    # Random. After a failover that lost transactions all the numbers above come again, for another
    # event.
    claim_token = Text(PLAIN, seen=Seen.NOWHERE)

    unique = ("delivery_id, number",)
    checks = ("(outcome IS NULL) = (finished_at_ms IS NULL)",)


class Rejection(Table):
    """A request that was refused: evidence, bounded, never an event."""

    kept = Kept.REJECTIONS
    at_ms = Moment(PLAIN)
    endpoint = Text(PLAIN)
    remote_ip = Text(PERSONAL, kept=Kept.REJECTIONS, shown=Shape.PLAIN)
    reason = Text(PLAIN)
    body_bytes = Number(PLAIN, null=True)
    body_digest = Text(DIGEST, kept=Kept.REJECTIONS, shown=Shape.PLAIN, null=True)
    hint = Text(PLAIN, null=True)  # in which form its signature would be right


class OperatorAction(Table):
    """What somebody did: replay, cancel, reveal and so on."""

    kept = Kept.RECORD
    exported_as = "operator_actions"
    at_ms = Moment(PLAIN)
    actor = Text(PERSONAL, kept=Kept.RECORD, shown=Shape.PLAIN)
    action = Text(PLAIN)
    event_id = Number(PLAIN, null=True)
    delivery_id = Number(PLAIN, null=True)
    note = Text(PERSONAL, kept=Kept.IDENTITY, shown=Shape.PLAIN, null=True)
    # Of a replay of many: the row of all of it. (No foreign key: no look-up at each.)
    part_of_id = Number(PLAIN, null=True)

    indexes = (
        "whole (id) WHERE part_of_id IS NULL",
        "part (part_of_id) WHERE part_of_id IS NOT NULL",
        "event (event_id) WHERE event_id IS NOT NULL",
        "delivery (delivery_id) WHERE delivery_id IS NOT NULL",
        "note (at_ms, id) WHERE note IS NOT NULL AND event_id IS NULL AND delivery_id IS NULL",
    )


class Downtime(Table):
    """A time in which no webhook could be stored, so that some may have been lost."""

    kept = Kept.PERMANENT
    from_ms = Moment(PLAIN)
    until_ms = Moment(PLAIN)
    reconciled_at_ms = Moment(PLAIN, null=True)  # when nothing was missing any more


class Record(Table):
    """One row: what holds of the whole record."""

    kept = Kept.PERMANENT
    schema_number = Number(PLAIN)
    schema_digest = Text(PLAIN)  # of the core's part, see schema.py
    record_id = Text(PLAIN)  # tells its copies and its erasures from those of other records
    # The key of the digests that outlast what they are of; it never changes.
    digest_key = Bytes(SECRET, kept=Kept.PERMANENT, seen=Seen.NOWHERE)
    # When a daemon last took webhooks, by two clocks.
    alive_at_ms = Moment(PLAIN, null=True)
    machine_start = Text(PLAIN, null=True)  # which start of the machine `uptime_ms` counts from
    uptime_ms = Number(PLAIN, null=True)
    # The time that periods count back from, and by the machine's clock when that was written.
    trusted_ms = Moment(PLAIN, null=True)
    trusted_start = Text(PLAIN, null=True)
    trusted_uptime_ms = Number(PLAIN, null=True)
    vacuum_rate = Number(PLAIN, null=True)  # of the last VACUUM: bytes in a second


class SchemaPart(Table):
    """That a feature's part of the schema was made."""

    kept = Kept.PERMANENT
    is_moved = False
    feature = Text(PLAIN, unique=True)
    digest = Text(PLAIN)  # see schema.py


class Host(Table):
    """A daemon that works on this database, or has."""

    kept = Kept.PERMANENT
    worker = Text(PLAIN, unique=True)  # its name in `attempt`
    name = Text(PLAIN)
    pid = Number(PLAIN)
    version = Text(PLAIN)
    actions = Text(PLAIN, constraints=[SQL("DEFAULT ''")])  # in its configuration, a line each
    started_at_ms = Moment(PLAIN)
    seen_at_ms = Moment(PLAIN)
    beat_count = Number(PLAIN, constraints=ZERO)  # others see by it that it lives
    ended_at_ms = Moment(PLAIN, null=True)
    ended = Text(PLAIN, null=True)  # stopped, or lost
    lost_after_ms = Number(PLAIN, null=True)  # without a beat for so long, it is lost
    forgotten_at_ms = Moment(PLAIN, null=True)  # when an operator ended it: it won't come back


# Events first: of a move they are what takes long.
TABLES = (
    Event,
    Delivery,
    Attempt,
    Rejection,
    OperatorAction,
    Downtime,
    Record,
    SchemaPart,
    Host,
)

# What asks for the rows of a partial index. As text, so that both engines see that a query does.
IS_DOUBTED = Event.doubt != SQL("''")
IS_HELD = Delivery.held_by.is_null(False)
# What people look at, and behind it the parts of a replay of many.
IS_WHOLE = OperatorAction.part_of_id.is_null()
# The attempt that a running delivery has open: each start counts one more.
IS_LAST_ATTEMPT = (Attempt.delivery == Delivery.id) & (Attempt.number == Delivery.attempt_count)
_LATER = Host.alias()
# The last daemon of a host, which has ended, and whom nobody has told to be gone for good.
IS_AWAY = (
    Host.ended.is_null(False)
    & Host.forgotten_at_ms.is_null()
    & Host.id.in_(_LATER.select(fn.MAX(_LATER.id)).group_by(_LATER.name))
)


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
       delivery.held_by, delivery.ran_instead_id, delivery.last_error
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
