"""What Prembly was asked, what is awaited, and the days that were compared with its log."""

from typing import ClassVar

from peewee import fn

from premblyd.features.asking.states import AwaitedState, InquiryResult
from premblyd.ground.privacy import Shape
from premblyd.store.columns import (
    DIGEST,
    PERSONAL,
    PLAIN,
    ZERO,
    Json,
    Kept,
    Moment,
    Number,
    Reference,
    Seen,
    Table,
    Text,
    Truth,
)
from premblyd.store.tables import Delivery, Event, iso


class Inquiry(Table):
    """One question to Prembly, and its result."""

    kept = Kept.RECORD
    named_by = "reference"
    exported_as = "inquiries"
    at_ms = Moment(PLAIN)
    purpose = Text(PLAIN)
    event = Reference(Event, column_name="event_id", null=True, on_delete="CASCADE")
    delivery = Reference(Delivery, column_name="delivery_id", null=True, on_delete="CASCADE")
    # NULL: a session was asked for, whose id is a secret
    reference = Text(PERSONAL, kept=Kept.IDENTITY, shown=Shape.REFERENCE, null=True)
    result = Text(PLAIN)
    duration_ms = Number(PLAIN)
    http_status = Number(PLAIN, null=True)
    error = Text(PERSONAL, kept=Kept.IDENTITY, shown=Shape.ERROR, null=True)
    answer_bytes = Number(PLAIN, null=True)
    answer_digest = Text(DIGEST, kept=Kept.RECORD, shown=Shape.PLAIN, null=True)
    stored_event = Reference(
        Event, column_name="stored_event_id", null=True, backref="+", on_delete="CASCADE"
    )

    indexes = (
        "event (event_id) WHERE event_id IS NOT NULL",
        "delivery (delivery_id) WHERE delivery_id IS NOT NULL",
        "stored_event (stored_event_id) WHERE stored_event_id IS NOT NULL",
        "contradicted (event_id) WHERE result = 'contradicted'",
        "without_event (reference) WHERE event_id IS NULL AND reference IS NOT NULL",
    )


class Awaited(Table):
    """A verification that is not settled: Prembly is asked until it is, or is given up."""

    kept = Kept.RECORD
    exported_as = "awaited"
    waiting: ClassVar = {"state": AwaitedState.WAITING}
    stopped: ClassVar = {"state": AwaitedState.ERASED, "due_at_ms": None}
    endpoint = Text(PLAIN)
    reference = Text(PERSONAL, kept=Kept.IDENTITY, shown=Shape.REFERENCE)
    event = Reference(Event, column_name="event_id", on_delete="CASCADE")
    state = Text(PLAIN)
    due_at_ms = Moment(PLAIN, null=True)  # the queue: NULL is out of it
    ask_count = Number(PLAIN, constraints=ZERO)
    created_at_ms = Moment(PLAIN)
    finished_at_ms = Moment(PLAIN, null=True)
    settled_by = Reference(
        Event,
        column_name="settled_by_id",
        null=True,
        backref="+",
        on_delete="CASCADE",
        is_about=False,
    )
    last_error = Text(PLAIN, null=True)
    # As an event's.
    reference_key = Text(PERSONAL, kept=Kept.IDENTITY, seen=Seen.NOWHERE, null=True)
    # When Prembly was asked last, when it answered last, and since when it is known that Prembly
    # has such a verification. NULL: never.
    asked_at_ms = Moment(PLAIN, null=True)
    answered_at_ms = Moment(PLAIN, null=True)
    known_at_ms = Moment(PLAIN, null=True)

    checks = ("(due_at_ms IS NOT NULL) = (state = 'waiting')",)
    indexes = (
        "due (due_at_ms) WHERE due_at_ms IS NOT NULL",
        "reference (reference)",
        "reference_key (reference_key) WHERE reference_key IS NOT NULL",
        "event (event_id)",
        "settled_by (settled_by_id) WHERE settled_by_id IS NOT NULL",
        "given_up (finished_at_ms) WHERE state = 'given_up'",
        "turn ((known_at_ms IS NULL), (COALESCE(asked_at_ms, 0)), created_at_ms DESC, due_at_ms)"
        " WHERE due_at_ms IS NOT NULL",
    )


class Day(Table):
    """The result of the last comparison of a day (UTC) with Prembly's log."""

    kept = Kept.PERMANENT
    day_ms = Moment(PLAIN, unique=True)  # its beginning
    read_at_ms = Moment(PLAIN)
    is_complete = Truth(PLAIN)
    reasons = Text(PLAIN)  # why it is not, as words: see features/asking/days.py
    counts = Json(PLAIN)


class Confirmation(Table):
    """That Prembly's answer has confirmed the event of a delivery, whose hook may run since."""

    kept = Kept.RECORD
    exported_as = "confirmations"
    delivery = Reference(Delivery, column_name="delivery_id", unique=True, on_delete="CASCADE")
    at_ms = Moment(PLAIN)  # when Prembly answered
    answer_digest = Text(DIGEST, kept=Kept.RECORD, shown=Shape.PLAIN, null=True)
    facts = Json(PERSONAL, kept=Kept.IDENTITY)  # that its answer states; emptied: a list


TABLES = (Inquiry, Awaited, Day, Confirmation)
VIEWS = (
    f"""CREATE VIEW confirm_log AS
SELECT confirmation.delivery_id, delivery.event_id, delivery.action, delivery.state,
       {iso("confirmation.at_ms")} AS confirmed_at, confirmation.answer_digest, confirmation.facts
FROM confirmation JOIN delivery ON delivery.id = confirmation.delivery_id""",
)

# What Prembly says to `confirm` of an event that may be forged.
DOUBTS = (InquiryResult.CONTRADICTED, InquiryResult.UNSETTLED, InquiryResult.NOT_FOUND)

IS_CONFIRMED = fn.EXISTS(
    Confirmation.select(Confirmation.id).where(Confirmation.delivery == Delivery.id)
)
