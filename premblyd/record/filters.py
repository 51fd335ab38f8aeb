"""The filters of the core's lists."""

from dataclasses import dataclass
from typing import Any

from peewee import SQL, fn

from premblyd.prembly.payload import Outcome
from premblyd.record import criteria, queries
from premblyd.record.listing import (
    Chosen,
    Condition,
    Reads,
    by,
    equals,
    flag,
    since,
    time,
    until,
    where,
    with_added,
    words,
)
from premblyd.store.engine import Database
from premblyd.store.states import State
from premblyd.store.tables import (
    IS_DOUBTED,
    IS_WHOLE,
    WAITS_FOR_ANOTHER,
    Delivery,
    Event,
    OperatorAction,
    Rejection,
)

SHORT_KEY = 4  # hex digits
KINDS = ("api", "sdk", "raw")


def by_code(_: Database, code: str) -> Condition:
    column = Event.response_code
    expression = column.is_null() if code == "missing" else column == code
    return Condition(expression=expression, index="event_response_code")


def by_type(_: Database, pattern: str) -> Condition:
    if set("*?") & set(pattern):
        return Condition(expression=queries.matches(Event.type, pattern))
    return Condition(expression=Event.type == pattern, index="event_type")


def _key(_: Database, key: str) -> Condition:
    is_key = Event.key.between(key, f"{key}g")  # a range, which the key's own index serves
    if len(key) < SHORT_KEY:  # very many begin so
        return Condition(expression=fn.COALESCE(Event.key, "").between(key, f"{key}g"))
    return Condition(expression=Event.id.in_(Event.select(Event.id).where(is_key)), is_of_ids=True)


# Which no index has: the range of ids is looked for before.
_received_at = fn.COALESCE(Event.received_at_ms, 0)
_UNTIL = "1h, 2026-01-31 14:00"
_TYPE: dict[str, Any] = {"reads": Reads.TYPE, "hint": "sdk.session, transaction.*"}


@with_added
@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter(Chosen):
    """Which events."""

    find: str | None = by(
        criteria.by_any_name,
        "Find",
        "Only those with this number, key or user_ref, or a reference that begins with it.",
        hint="number, key, reference, user ref",
    )
    handled: str | None = by(
        criteria.is_handled,
        "Handled",
        "Only those whose worst delivery is in this state; none: no action matched.",
        choices=criteria.HANDLED,
    )
    code: str | None = by(
        by_code,
        "Code",
        "Only this response code; `missing` for events without one.",
        hint="00, missing",
    )
    outcome: str | None = by(
        equals(Event.outcome, "event_outcome"),
        "Outcome",
        "Only this outcome.",
        choices=words(Outcome),
    )
    type: str | None = by(by_type, "Type", "Only this type, or transaction.*", **_TYPE)
    kind: str | None = by(equals(Event.kind), "Kind", choices=KINDS)
    reference: str | None = by(
        equals(Event.reference, "event_reference"),
        "Reference",
        "Only this reference of Prembly.",
    )
    user_ref: str | None = by(
        equals(Event.user_ref, "event_user_ref"),
        "User ref",
        "Only this reference of a person (user_ref).",
    )
    since_ms: int | None = time(
        since(_received_at, is_in_range=True),
        "Since",
        "Only received at or after: 2026-01-31, 12h.",
    )
    until_ms: int | None = time(
        until(_received_at, is_in_range=True), "Until", "Only received before.", _UNTIL
    )
    text: str | None = by(where(Event.detail.contains), "Detail contains", probes=True)
    whole_name: str | None = by(criteria.by_whole_name)  # `find`, for who may not see all
    endpoint: str | None = by(equals(Event.endpoint), is_linked=True)
    key: str | None = by(
        _key, "", "Only the event with this key, or its first digits.", reads=Reads.KEY
    )
    is_doubted: bool = flag(
        where(lambda _: IS_DOUBTED, index="event_doubted"),
        "Doubted",
        "Only those that say VERIFIED, but also something that does not fit.",
    )


@with_added
@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter(Chosen):
    """Which deliveries. Of their events, which they are LEFT JOINed to, COALESCE lets SQLite not
    begin with the events."""

    state: str | None = by(
        equals(Delivery.state, "delivery_state"), "State", "Only this state.", choices=words(State)
    )
    action: str | None = by(equals(Delivery.action), "Action", "Only this action.")
    type: str | None = by(
        where(lambda pattern: queries.matches(fn.COALESCE(Event.type, ""), pattern)),
        "Type",
        "Only of this type, or transaction.*",
        **_TYPE,
    )
    since_ms: int | None = time(
        since(_received_at), "Received since", "Only of events received since."
    )
    until_ms: int | None = time(
        until(_received_at), "Received until", "Only of events received before.", _UNTIL
    )
    error: str | None = by(
        where(Delivery.last_error.contains),
        "Error contains",
        "Only with these words in the last error.",
        probes=True,
    )
    event_id: int | None = by(
        equals(Delivery.event, "delivery_event"),
        "",
        "Only of this event: its number or key.",
        reads=Reads.EVENT,
    )
    is_blocked: bool = flag(
        where(lambda _: WAITS_FOR_ANOTHER, index="delivery_waits"),
        "",
        "Only those that wait for another (order).",
    )
    ids: tuple[int, ...] | None = by(where(Delivery.id.in_))
    delivery_id: int | None = by(equals(Delivery.id))
    due_after_ms: int | None = by(where(lambda due_ms: fn.COALESCE(Delivery.due_at_ms, 0) > due_ms))

    def conditions(self, database: Database) -> list[Condition]:
        found = Chosen.conditions(self, database)
        if self.state == State.DEAD and self.action is not None:
            # As text, so that SQLite sees that the index has these rows.
            dead = (Delivery.state == SQL("'dead'")) & (Delivery.action == self.action)
            found.append(Condition(expression=dead, index="delivery_dead"))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionFilter(Chosen):
    """Which rejections."""

    reason: str | None = by(
        equals(Rejection.reason),
        "Reason",
        "Only refused for this reason, such as 'wrong signature'.",
        hint="wrong signature",
    )
    remote_ip: str | None = by(
        equals(Rejection.remote_ip),
        "From",
        "Only from this address.",
        option="ip",
        hint="192.0.2.7",
    )
    since_ms: int | None = time(
        since(Rejection.at_ms), "Since", "Only refused at or after: 2026-01-31, 12h."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFilter(Chosen):
    """Which of what people did; of a replay of many only all of it, without `part_of_id`."""

    action: str | None = by(equals(OperatorAction.action), "Did", hint="replay, reveal")
    actor: str | None = by(where(OperatorAction.actor.contains), "Who")
    since_ms: int | None = time(since(OperatorAction.at_ms), "Since")
    part_of_id: int | None = by(
        equals(OperatorAction.part_of_id, "operator_action_part"), reads=Reads.ROW, is_linked=True
    )

    def conditions(self, database: Database) -> list[Condition]:
        found = Chosen.conditions(self, database)
        if self.part_of_id is None:
            found.append(Condition(expression=IS_WHOLE, index="operator_action_whole"))
        return found
