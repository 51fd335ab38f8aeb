"""The tables, as Peewee models. `migrations/` makes them, and the views for people who type SQL;
a test holds that both say the same.

Times are integer Unix milliseconds, UTC.
"""

from enum import StrEnum

from peewee import SQL, CompositeKey, Model, Node, fn

from premblyd.model.columns import (
    DIGEST,
    PERSONAL,
    PLAIN,
    SECRET,
    Bytes,
    Id,
    Json,
    Moment,
    Number,
    Real,
    Reference,
    Seen,
    Text,
    Truth,
)
from premblyd.model.states import State
from premblyd.privacy.fields import Shape


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


_ZERO: list[Node] = [SQL("DEFAULT 0")]


class Table(Model):
    id = Id(PLAIN)

    class Meta:
        legacy_table_names = False


class Event(Table):
    """One authentic webhook, stored exactly as received."""

    key = Text(DIGEST, shown=Shape.PLAIN, unique=True)
    endpoint = Text(PLAIN)
    received_at_ms = Moment(PLAIN)
    remote_ip = Text(PERSONAL, shown=Shape.PLAIN)
    token = Text(SECRET, seen=Seen.EVENT, null=True)
    # [[name, value], …]; no signature, token, credential.
    headers = Json(PERSONAL, seen=Seen.EVENT)
    body_bytes = Number(PLAIN)
    body_sha256 = Text(DIGEST, shown=Shape.PLAIN)
    verified_by = Text(PLAIN)
    kind = Text(PLAIN)
    response_code = Text(PLAIN, shown=Shape.CODE, null=True)
    status = Text(PLAIN, shown=Shape.WORD, null=True)
    detail = Text(PERSONAL, shown=Shape.SENTENCE, null=True)
    verification_status = Text(PLAIN, shown=Shape.WORD, null=True)
    outcome = Text(PLAIN)
    reference = Text(PERSONAL, shown=Shape.REFERENCE, null=True)
    user_ref = Text(PERSONAL, shown=Shape.REFERENCE, null=True)
    session_id = Text(SECRET, seen=Seen.EVENT, null=True)
    face_match = Truth(PLAIN, null=True)
    face_confidence = Real(PLAIN, shown=Shape.NUMBER, null=True)
    duplicate_count = Number(PLAIN, constraints=_ZERO)
    last_duplicate_at_ms = Moment(PLAIN, null=True)
    # NULL: stored by a premblyd that did not tell types.
    type = Text(PLAIN, shown=Shape.TYPE, null=True)
    risk_level = Text(PLAIN, shown=Shape.WORD, null=True)
    risk_score = Real(PLAIN, shown=Shape.NUMBER, null=True)
    # Empty: none. NULL: stored by a premblyd that did not look for it.
    doubt = Text(PLAIN, null=True)
    # The reference in the spelling that all spellings of a UUID have in common; NULL: it has that.
    reference_key = Text(PERSONAL, seen=Seen.NOWHERE, null=True)
    # Last, so that SQLite need not walk a photo to reach another column.
    body = Bytes(PERSONAL, seen=Seen.EVENT)


class Delivery(Table):
    """One event for one action: the queue entry."""

    event = Reference(Event, column_name="event_id", backref="deliveries", index=False)
    action = Text(PLAIN)
    state = Text(PLAIN)
    due_at_ms = Moment(PLAIN, null=True)  # the queue: NULL is out of it
    # Of all attempts ever, replays' too.
    attempt_count = Number(PLAIN, constraints=_ZERO)
    attempts_left = Number(PLAIN)
    created_at_ms = Moment(PLAIN)
    finished_at_ms = Moment(PLAIN, null=True)
    last_error = Text(PERSONAL, shown=Shape.ERROR, null=True)
    # Of a skipped one: the delivery that succeeded in its place.
    ran_instead = Reference("self", column_name="ran_instead_id", null=True, index=False)
    # With `once`, of the one that runs or has succeeded: what it runs once for.
    once_key = Text(DIGEST, null=True)
    confirmed_at_ms = Moment(PLAIN, null=True)  # when Prembly's answer said the same
    confirmed_sha256 = Text(DIGEST, shown=Shape.PLAIN, null=True)  # of that answer
    # With `order`, see order.py: the deliveries of one key run one at a time. Which must end before
    # this one, whose due_at_ms is NULL meanwhile; and whether those behind wait when it is dead.
    order_key = Text(DIGEST, null=True)
    order_place = Number(PLAIN, null=True)  # among those of its key that are not over
    waits_for_id = Number(PLAIN, null=True)  # no foreign key: SQLite checks it at each change
    holds_order = Truth(PLAIN, constraints=_ZERO)
    # What Prembly's answer states, see confirmed.py.
    confirmed_facts = Json(PERSONAL, seen=Seen.NOWHERE, null=True)
    # With `once`, by the names in that answer: see verifications/names.py.
    confirmed_key = Text(DIGEST, seen=Seen.NOWHERE, null=True)


class Attempt(Table):
    """One run of the action's hook for a delivery. Open (no outcome) while it runs."""

    delivery = Reference(Delivery, column_name="delivery_id", backref="attempts", index=False)
    number = Number(PLAIN)
    worker = Text(PLAIN)
    action_digest = Text(PLAIN)
    started_at_ms = Moment(PLAIN)
    finished_at_ms = Moment(PLAIN, null=True)
    outcome = Text(PLAIN, null=True)
    exit_code = Number(PLAIN, null=True)
    http_status = Number(PLAIN, null=True)
    error = Text(PERSONAL, shown=Shape.ERROR, null=True)
    output = Text(PERSONAL, seen=Seen.EVENT, null=True)
    output_truncated = Truth(PLAIN, constraints=_ZERO)
    # Random. After a failover that lost transactions all the numbers above come again, for another
    # event. NULL: claimed by a premblyd that had no tokens.
    claim_token = Text(PLAIN, seen=Seen.NOWHERE, null=True)

    class Meta:
        indexes = ((("delivery", "number"), True),)


class Rejection(Table):
    """A request that was refused: evidence, bounded, never an event."""

    at_ms = Moment(PLAIN)
    endpoint = Text(PLAIN)
    remote_ip = Text(PERSONAL, shown=Shape.PLAIN)
    reason = Text(PLAIN)
    body_bytes = Number(PLAIN, null=True)
    body_sha256 = Text(DIGEST, shown=Shape.PLAIN, null=True)


class OperatorAction(Table):
    """What a person did by command: replay, cancel, reveal."""

    at_ms = Moment(PLAIN)
    actor = Text(PERSONAL, shown=Shape.PLAIN)
    action = Text(PLAIN)
    event_id = Number(PLAIN, null=True)
    delivery_id = Number(PLAIN, null=True)
    note = Text(PERSONAL, shown=Shape.PLAIN, null=True)
    # Of a replay of many: the row of all of it. (No foreign key: no look-up at each.)
    part_of_id = Number(PLAIN, null=True)


class Inquiry(Table):
    """One question to Prembly, and what came of it."""

    at_ms = Moment(PLAIN)
    purpose = Text(PLAIN)
    event = Reference(Event, column_name="event_id", null=True, index=False)
    delivery = Reference(Delivery, column_name="delivery_id", null=True, index=False)
    # NULL: a session was asked for, whose id is a secret
    reference = Text(PERSONAL, shown=Shape.REFERENCE, null=True)
    result = Text(PLAIN)
    duration_ms = Number(PLAIN)
    http_status = Number(PLAIN, null=True)
    error = Text(PERSONAL, shown=Shape.ERROR, null=True)
    answer_bytes = Number(PLAIN, null=True)
    answer_sha256 = Text(DIGEST, shown=Shape.PLAIN, null=True)
    stored_event = Reference(
        Event, column_name="stored_event_id", null=True, index=False, backref="+"
    )
    # nothing is asked before, because of this answer
    wait_until_ms = Moment(PLAIN, seen=Seen.NOWHERE, null=True)


class Awaited(Table):
    """A verification that is not settled: Prembly is asked until it is, or is given up."""

    endpoint = Text(PLAIN)
    reference = Text(PERSONAL, shown=Shape.REFERENCE)
    event = Reference(Event, column_name="event_id", index=False)
    state = Text(PLAIN)
    due_at_ms = Moment(PLAIN, null=True)  # the queue: NULL is out of it
    ask_count = Number(PLAIN, constraints=_ZERO)
    created_at_ms = Moment(PLAIN)
    finished_at_ms = Moment(PLAIN, null=True)
    settled_by = Reference(Event, column_name="settled_by_id", null=True, index=False, backref="+")
    last_error = Text(PLAIN, null=True)
    reference_key = Text(PERSONAL, seen=Seen.NOWHERE, null=True)  # as an event's


class VerificationName(Table):
    """A name of a verification that Prembly gives several: see verifications/names.py."""

    name = Text(PERSONAL, unique=True)  # a reference in its one spelling, or a session's digest
    verification = Text(PERSONAL)  # the same for all its names: one of them
    at_ms = Moment(PLAIN)


class Downtime(Table):
    """A time in which no webhook could be stored, so that some may have been lost."""

    from_ms = Moment(PLAIN)
    until_ms = Moment(PLAIN)
    reconciled_at_ms = Moment(PLAIN, null=True)  # when nothing was missing any more


class ConsoleLink(Table):
    """A link by which its holder signs in to the console, once: of its token, the digest alone."""

    digest = Text(SECRET, unique=True)
    actor = Text(PERSONAL, shown=Shape.PLAIN)
    created_at_ms = Moment(PLAIN)
    expires_at_ms = Moment(PLAIN)


class ConsoleSession(Table):
    """Somebody who is signed in to the console: of the cookie, the digest alone."""

    digest = Text(SECRET, unique=True)
    actor = Text(PERSONAL, shown=Shape.PLAIN)
    remote_ip = Text(PERSONAL, shown=Shape.PLAIN)
    began_at_ms = Moment(PLAIN)
    expires_at_ms = Moment(PLAIN)
    password_sha256 = Text(SECRET, null=True)  # of its hash in the configuration; NULL: by a link


class Heartbeat(Table):
    """When a daemon last took webhooks, in the first row. The others are of an earlier premblyd's
    health checks."""

    at_ms = Moment(PLAIN)  # of such a check
    # By two clocks. NULL: none of this version has run.
    alive_at_ms = Moment(PLAIN, null=True)
    machine_start = Text(PLAIN, null=True)  # which start of the machine `uptime_ms` counts from
    uptime_ms = Number(PLAIN, null=True)


class Host(Table):
    """A daemon that works on this database, or has: see migrations/0005_hosts.py."""

    worker = Text(PLAIN, unique=True)  # its name in `attempt`
    name = Text(PLAIN)
    place = Text(PLAIN, null=True)  # where its pid counts
    pid = Number(PLAIN)
    process_start = Number(PLAIN, null=True)  # in ticks since the machine's start
    version = Text(PLAIN)
    actions = Text(PLAIN, constraints=[SQL("DEFAULT ''")])  # in its configuration, a line each
    started_at_ms = Moment(PLAIN)
    seen_at_ms = Moment(PLAIN)
    beat_count = Number(PLAIN, constraints=_ZERO)  # others see by it that it lives
    ended_at_ms = Moment(PLAIN, null=True)
    ended = Text(PLAIN, null=True)  # stopped, or lost
    lost_after_ms = Number(PLAIN, null=True)  # without a beat for so long, it is lost
    forgotten_at_ms = Moment(PLAIN, null=True)  # when an operator ended it: it won't come back


class SchemaFloor(Table):
    """The oldest migration that a program must know to work on this database beside others."""

    migration = Text(PLAIN)


class AlertSent(Table):
    """When an alert told of something last. `kind`: the kind of trouble, and behind a space what of
    its kind it is, such as an action."""

    name = Text(PLAIN)
    kind = Text(PLAIN)
    sent_at_ms = Moment(PLAIN)

    class Meta:
        indexes = ((("name", "kind"), True),)


class AlertFailure(Table):
    """An alert that could not be sent, until it is."""

    name = Text(PLAIN, unique=True)
    failed_at_ms = Moment(PLAIN)
    error = Text(PLAIN, null=True)
    output = Text(PLAIN, null=True)  # what its hook printed


class RollUp(Model):
    """A table of counts, kept in the transactions that make what they count: see rollups.py."""

    class Meta:
        legacy_table_names = False
        without_rowid = True


class EventHour(RollUp):
    """The webhooks of an hour that were alike."""

    hour_ms = Moment(PLAIN)
    type = Text(PLAIN)  # empty: none
    response_code = Text(PLAIN)  # empty: missing
    outcome = Text(PLAIN)
    events = Number(PLAIN, constraints=_ZERO)
    duplicates = Number(PLAIN, constraints=_ZERO)
    unmatched = Number(PLAIN, constraints=_ZERO)  # of the events: those without a delivery
    part = Number(PLAIN, constraints=_ZERO)  # daemons that count at once do in rows of their own

    class Meta:
        primary_key = CompositeKey("hour_ms", "type", "response_code", "outcome", "part")


class AttemptHour(RollUp):
    """The attempts that ended in an hour, of one action, in the same way, after about as long."""

    hour_ms = Moment(PLAIN)
    action = Text(PLAIN)
    outcome = Text(PLAIN)
    bucket_ms = Number(PLAIN)  # none took longer: see rollups.lower_bound_ms
    attempts = Number(PLAIN, constraints=_ZERO)
    part = Number(PLAIN, constraints=_ZERO)

    class Meta:
        primary_key = CompositeKey("hour_ms", "action", "outcome", "bucket_ms", "part")


TABLES: tuple[type[Model], ...] = (*Table.__subclasses__(), *RollUp.__subclasses__())
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
# What people look at, and behind it the parts of a replay of many.
IS_WHOLE = OperatorAction.part_of_id.is_null()
OperatorAction.add_index(OperatorAction.id, name="operator_action_whole", where=IS_WHOLE)
OperatorAction.add_index(
    OperatorAction.part_of_id,
    name="operator_action_part",
    where=OperatorAction.part_of_id.is_null(False),
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
