"""The tables, as Peewee models. `migrations/` makes them, and the views for people who type SQL;
a test holds that both say the same.

Times are integer Unix milliseconds, UTC.
"""

from enum import StrEnum

from peewee import (
    SQL,
    AutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    CompositeKey,
    FloatField,
    ForeignKeyField,
    IntegerField,
    Model,
    Node,
    TextField,
    fn,
)


class State(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"  # waits for due_at_ms
    RUNNING = "running"  # its hook runs; due_at_ms is the end of the lease
    SUCCEEDED = "succeeded"
    DEAD = "dead"  # attempts spent, or it can never work; replay puts it back
    CANCELLED = "cancelled"  # an operator stopped it
    SKIPPED = "skipped"  # `once`: another delivery of the same reference and outcome succeeded


FINISHED = (State.SUCCEEDED, State.DEAD, State.CANCELLED, State.SKIPPED)


class AttemptOutcome(StrEnum):
    """How one run of a hook ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"  # the daemon stopped or crashed meanwhile


class Purpose(StrEnum):
    """Why Prembly was asked."""

    CONFIRM = "confirm"  # whether an event is true, before a hook runs
    PENDING = "pending"  # what became of a verification
    RECONCILE = "reconcile"  # for an event that never came


class InquiryResult(StrEnum):
    """What came of one question to Prembly."""

    CONFIRMED = "confirmed"  # the answer says the same as the event
    CONTRADICTED = "contradicted"  # it says something else
    SETTLED = "settled"  # it is final, and was stored as an event
    UNSETTLED = "unsettled"  # Prembly does not know yet either
    NOT_FOUND = "not_found"  # Prembly knows no such verification
    REFUSED = "refused"  # the API key is wrong, or may not ask this
    UNAVAILABLE = "unavailable"  # no answer that can be used; ask again later


class AwaitedState(StrEnum):
    """Where an awaited verification stands."""

    WAITING = "waiting"  # Prembly is asked at due_at_ms
    SETTLED = "settled"
    GIVEN_UP = "given_up"


_ZERO: list[Node] = [SQL("DEFAULT 0")]


class Table(Model):
    id = AutoField()

    class Meta:
        legacy_table_names = False


class Event(Table):
    """One authentic webhook, stored exactly as received."""

    key = TextField(unique=True)
    endpoint = TextField()
    received_at_ms = BigIntegerField()
    remote_ip = TextField()
    token = TextField(null=True)
    headers = TextField()  # JSON [[name, value], …]; no signature, token, credential
    body_bytes = IntegerField()
    body_sha256 = TextField()
    verified_by = TextField()
    kind = TextField()
    response_code = TextField(null=True)
    status = TextField(null=True)
    detail = TextField(null=True)
    verification_status = TextField(null=True)
    outcome = TextField()
    reference = TextField(null=True)
    user_ref = TextField(null=True)
    session_id = TextField(null=True)
    face_match = BooleanField(null=True)
    face_confidence = FloatField(null=True)
    duplicate_count = IntegerField(constraints=_ZERO)
    last_duplicate_at_ms = BigIntegerField(null=True)
    type = TextField(null=True)  # NULL: stored by a premblyd that did not tell types
    risk_level = TextField(null=True)
    risk_score = FloatField(null=True)
    doubt = TextField(null=True)  # empty: none; NULL: stored by a premblyd that did not look for it
    # The reference in the spelling that all spellings of a UUID have in common; NULL: it has that.
    reference_key = TextField(null=True)
    body = BlobField()  # last, so that SQLite need not walk a photo to reach another column


class Delivery(Table):
    """One event for one action: the queue entry."""

    event = ForeignKeyField(Event, column_name="event_id", backref="deliveries", index=False)
    action = TextField()
    state = TextField()
    due_at_ms = BigIntegerField(null=True)  # the queue: NULL is out of it
    # Of all attempts ever, replays' too.
    attempt_count = IntegerField(constraints=_ZERO)
    attempts_left = IntegerField()
    created_at_ms = BigIntegerField()
    finished_at_ms = BigIntegerField(null=True)
    last_error = TextField(null=True)
    # Of a skipped one: the delivery that succeeded in its place.
    ran_instead = ForeignKeyField("self", column_name="ran_instead_id", null=True, index=False)
    # With `once`, of the one that runs or has succeeded: what it runs once for.
    once_key = TextField(null=True)
    confirmed_at_ms = BigIntegerField(null=True)  # when Prembly's answer said the same
    confirmed_sha256 = TextField(null=True)  # of that answer
    # With `order`, see order.py: the deliveries of one key run one at a time. Which must end before
    # this one, whose due_at_ms is NULL meanwhile; and whether those behind wait when it is dead.
    order_key = TextField(null=True)
    order_place = IntegerField(null=True)  # among those of its key that are not over
    waits_for_id = BigIntegerField(null=True)  # no foreign key: SQLite checks it at each change
    holds_order = BooleanField(constraints=_ZERO)
    confirmed_facts = TextField(null=True)  # JSON: what Prembly's answer states, see confirmed.py
    confirmed_key = TextField(null=True)  # with `once`, by the names in that answer: see naming.py


class Attempt(Table):
    """One run of the action's hook for a delivery. Open (no outcome) while it runs."""

    delivery = ForeignKeyField(Delivery, column_name="delivery_id", backref="attempts", index=False)
    number = IntegerField()
    worker = TextField()
    action_digest = TextField()
    started_at_ms = BigIntegerField()
    finished_at_ms = BigIntegerField(null=True)
    outcome = TextField(null=True)
    exit_code = IntegerField(null=True)
    http_status = IntegerField(null=True)
    error = TextField(null=True)
    output = TextField(null=True)
    output_truncated = BooleanField(constraints=_ZERO)
    # Random. After a failover that lost transactions all the numbers above come again, for another
    # event. NULL: claimed by a premblyd that had no tokens.
    claim_token = TextField(null=True)

    class Meta:
        indexes = ((("delivery", "number"), True),)


class Rejection(Table):
    """A request that was refused: evidence, bounded, never an event."""

    at_ms = BigIntegerField()
    endpoint = TextField()
    remote_ip = TextField()
    reason = TextField()
    body_bytes = IntegerField(null=True)
    body_sha256 = TextField(null=True)


class OperatorAction(Table):
    """What a person did by command: replay, cancel, reveal."""

    at_ms = BigIntegerField()
    actor = TextField()
    action = TextField()
    event_id = IntegerField(null=True)
    delivery_id = IntegerField(null=True)
    note = TextField(null=True)


class Inquiry(Table):
    """One question to Prembly, and what came of it."""

    at_ms = BigIntegerField()
    purpose = TextField()
    event = ForeignKeyField(Event, column_name="event_id", null=True, index=False)
    delivery = ForeignKeyField(Delivery, column_name="delivery_id", null=True, index=False)
    reference = TextField(null=True)  # NULL: a session was asked for, whose id is a secret
    result = TextField()
    duration_ms = IntegerField()
    http_status = IntegerField(null=True)
    error = TextField(null=True)
    answer_bytes = IntegerField(null=True)
    answer_sha256 = TextField(null=True)
    stored_event = ForeignKeyField(
        Event, column_name="stored_event_id", null=True, index=False, backref="+"
    )
    wait_until_ms = BigIntegerField(null=True)  # nothing is asked before, because of this answer


class Awaited(Table):
    """A verification that is not settled: Prembly is asked until it is, or is given up."""

    endpoint = TextField()
    reference = TextField()
    event = ForeignKeyField(Event, column_name="event_id", index=False)
    state = TextField()
    due_at_ms = BigIntegerField(null=True)  # the queue: NULL is out of it
    ask_count = IntegerField(constraints=_ZERO)
    created_at_ms = BigIntegerField()
    finished_at_ms = BigIntegerField(null=True)
    settled_by = ForeignKeyField(
        Event, column_name="settled_by_id", null=True, index=False, backref="+"
    )
    last_error = TextField(null=True)
    reference_key = TextField(null=True)  # as an event's


class VerificationName(Table):
    """A name of a verification that Prembly's answers give more than one: see naming.py."""

    name = TextField(unique=True)  # a reference in its one spelling, or a session's digest
    verification = TextField()  # the same for all its names: one of them
    at_ms = BigIntegerField()


class Downtime(Table):
    """A time in which no webhook could be stored, so that some may have been lost."""

    from_ms = BigIntegerField()
    until_ms = BigIntegerField()
    reconciled_at_ms = BigIntegerField(null=True)  # when nothing was missing any more


class ConsoleLink(Table):
    """A link by which its holder signs in to the console, once: of its token, the digest alone."""

    digest = TextField(unique=True)
    actor = TextField()
    created_at_ms = BigIntegerField()
    expires_at_ms = BigIntegerField()


class ConsoleSession(Table):
    """Somebody who is signed in to the console: of the cookie, the digest alone."""

    digest = TextField(unique=True)
    actor = TextField()
    remote_ip = TextField()
    began_at_ms = BigIntegerField()
    expires_at_ms = BigIntegerField()
    password_sha256 = TextField(null=True)  # of its hash in the configuration; NULL: by a link


class Heartbeat(Table):
    """When the health check last proved a commit: daemons that share a database each have a row for
    that (1 + part), so that none waits for another. The first row has when any last took webhooks.
    """

    at_ms = BigIntegerField()  # the health check's
    # The daemon's, by two clocks. NULL: none of this version has run.
    alive_at_ms = BigIntegerField(null=True)
    machine_start = TextField(null=True)  # which start of the machine `uptime_ms` counts from
    uptime_ms = BigIntegerField(null=True)


class Host(Table):
    """A daemon that works on this database, or has: see migrations/0005_hosts.py."""

    worker = TextField(unique=True)  # its name in `attempt`
    name = TextField()
    place = TextField(null=True)  # where its pid counts
    pid = IntegerField()
    process_start = BigIntegerField(null=True)  # in ticks since the machine's start
    version = TextField()
    actions = TextField(constraints=[SQL("DEFAULT ''")])  # in its configuration, a line each
    started_at_ms = BigIntegerField()
    seen_at_ms = BigIntegerField()
    beat_count = IntegerField(constraints=_ZERO)  # others see by it that it lives
    ended_at_ms = BigIntegerField(null=True)
    ended = TextField(null=True)  # stopped, or lost
    lost_after_ms = BigIntegerField(null=True)  # without a beat for so long, it is lost
    forgotten_at_ms = BigIntegerField(null=True)  # when an operator ended it: it won't come back


class SchemaFloor(Table):
    """The oldest migration that a program must know to work on this database beside others."""

    migration = TextField()


class AlertSent(Table):
    """When an alert told of something last. `kind`: the kind of trouble, and behind a space what of
    its kind it is, such as an action."""

    name = TextField()
    kind = TextField()
    sent_at_ms = BigIntegerField()

    class Meta:
        indexes = ((("name", "kind"), True),)


class AlertFailure(Table):
    """An alert that could not be sent, until it is."""

    name = TextField(unique=True)
    failed_at_ms = BigIntegerField()
    error = TextField(null=True)
    output = TextField(null=True)  # what its hook printed


class RollUp(Model):
    """A table of counts, kept in the transactions that make what they count: see rollups.py."""

    class Meta:
        legacy_table_names = False
        without_rowid = True


class EventHour(RollUp):
    """The webhooks of an hour that were alike."""

    hour_ms = BigIntegerField()
    type = TextField()  # empty: none
    response_code = TextField()  # empty: missing
    outcome = TextField()
    events = IntegerField(constraints=_ZERO)
    duplicates = IntegerField(constraints=_ZERO)
    unmatched = IntegerField(constraints=_ZERO)  # of the events: those without a delivery
    part = IntegerField(constraints=_ZERO)  # daemons that count at once do in rows of their own

    class Meta:
        primary_key = CompositeKey("hour_ms", "type", "response_code", "outcome", "part")


class AttemptHour(RollUp):
    """The attempts that ended in an hour, of one action, in the same way, after about as long."""

    hour_ms = BigIntegerField()
    action = TextField()
    outcome = TextField()
    bucket_ms = BigIntegerField()  # none took longer: see rollups.lower_bound_ms
    attempts = IntegerField(constraints=_ZERO)
    part = IntegerField(constraints=_ZERO)

    class Meta:
        primary_key = CompositeKey("hour_ms", "action", "outcome", "bucket_ms", "part")


Event.add_index(Event.received_at_ms, name="event_received")
Event.add_index(Event.response_code, name="event_response_code")
Event.add_index(Event.outcome, name="event_outcome")
Event.add_index(Event.type, name="event_type")
Event.add_index(Event.reference, name="event_reference", where=Event.reference.is_null(False))
# As text, so that both engines see that a query is for rows of this index.
IS_DOUBTED = Event.doubt != SQL("''")
Event.add_index(Event.received_at_ms, name="event_doubted", where=IS_DOUBTED)
Event.add_index(
    Event.reference_key,
    name="event_reference_key",
    where=Event.reference_key.is_null(False),
)
Event.add_index(Event.user_ref, name="event_user_ref", where=Event.user_ref.is_null(False))
# Few events are not settled: those that came while nothing was awaited are found by this index. By
# COALESCE, SQLite takes it and not those of the columns, which would lead to all events ever.
MAY_BE_UNSETTLED = (fn.COALESCE(Event.outcome, SQL("''")) == SQL("'pending'")) | (
    fn.COALESCE(Event.response_code, SQL("''")) == SQL("'02'")
)
Event.add_index(
    Event.received_at_ms,
    name="event_unsettled",
    where=MAY_BE_UNSETTLED,
)
Delivery.add_index(Delivery.event, name="delivery_event")
Delivery.add_index(Delivery.state, name="delivery_state")
Delivery.add_index(
    Delivery.action,
    Delivery.due_at_ms,
    name="delivery_queue",
    where=Delivery.due_at_ms.is_null(False),
)
Delivery.add_index(
    Delivery.once_key,
    Delivery.action,
    name="delivery_once",
    unique=True,
    where=Delivery.once_key.is_null(False),
)
# As text, so that SQLite sees that a query is for rows of this index.
HOLDS_ITS_PLACE = SQL("(state IN ('pending', 'running') OR (state = 'dead' AND holds_order))")
Delivery.add_index(
    Delivery.order_key,
    Delivery.action,
    Delivery.order_place,
    name="delivery_order",
    where=HOLDS_ITS_PLACE,
)
# By COALESCE, SQLite takes the index of those that wait for another, and not that of the states.
WAITS_FOR_ANOTHER = Delivery.waits_for_id.is_null(False) & (
    fn.COALESCE(Delivery.state, "") == State.PENDING
)
Delivery.add_index(
    Delivery.waits_for_id, name="delivery_waits", where=Delivery.waits_for_id.is_null(False)
)
Inquiry.add_index(Inquiry.event, name="inquiry_event", where=Inquiry.event.is_null(False))
Inquiry.add_index(Inquiry.delivery, name="inquiry_delivery", where=Inquiry.delivery.is_null(False))
Inquiry.add_index(
    Inquiry.event, name="inquiry_contradicted", where=Inquiry.result == SQL("'contradicted'")
)
Awaited.add_index(Awaited.due_at_ms, name="awaited_due", where=Awaited.due_at_ms.is_null(False))
Awaited.add_index(Awaited.reference, name="awaited_reference")
Awaited.add_index(Awaited.event, name="awaited_event")
Awaited.add_index(
    Awaited.reference_key,
    name="awaited_reference_key",
    where=Awaited.reference_key.is_null(False),
)
VerificationName.add_index(VerificationName.verification, name="verification_name_verification")
Awaited.add_index(
    Awaited.finished_at_ms, name="awaited_given_up", where=Awaited.state == SQL("'given_up'")
)
# Few deliveries are dead: what each action has of them is counted without a look at their rows.
Delivery.add_index(
    Delivery.state, Delivery.action, name="delivery_dead", where=Delivery.state == SQL("'dead'")
)
# The attempt that a running delivery has open: each start counts one more.
IS_LAST_ATTEMPT = (Attempt.delivery == Delivery.id) & (Attempt.number == Delivery.attempt_count)
_LATER = Host.alias()
# The last daemon of a host, which has ended, and whom nobody has told to be gone for good.
IS_AWAY = (
    Host.ended.is_null(False)
    & Host.forgotten_at_ms.is_null()
    & Host.id.in_(_LATER.select(fn.MAX(_LATER.id)).group_by(_LATER.name))
)
