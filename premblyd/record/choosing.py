"""Which rows of a list are meant: filters, as conditions with the indexes that have their rows."""

from dataclasses import dataclass
from typing import Any

from peewee import SQL, Database, Expression, Field, fn

from premblyd.model.states import State
from premblyd.model.tables import IS_DOUBTED, WAITS_FOR_ANOTHER, Delivery, Event, Table
from premblyd.record import contradictions, fetching
from premblyd.record.leafing import By, Condition

HOUR_MS = 3_600_000
SHORT_KEY = 4  # hex digits


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events to list; None does not filter. Times in Unix milliseconds."""

    type: str | None = None  # or a pattern, such as transaction.*
    code: str | None = None  # or "missing"
    outcome: str | None = None
    kind: str | None = None
    endpoint: str | None = None
    reference: str | None = None
    user_ref: str | None = None
    key: str | None = None  # or its beginning, in hex
    since_ms: int | None = None
    until_ms: int | None = None
    text: str | None = None  # within detail
    contradicted: bool = False  # by Prembly
    is_doubted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries are meant; None does not filter. `since_ms`: of events received then or
    later. `due_after_ms`: those that wait for a later time."""

    delivery_id: int | None = None
    event_id: int | None = None
    state: str | None = None
    action: str | None = None
    type: str | None = None  # of the event, or a pattern of it
    is_waiting: bool = False  # by `order`, for another
    contradicted: bool = False  # of events that Prembly contradicted
    since_ms: int | None = None
    due_after_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionFilter:
    """Which rejections to list; None does not filter."""

    reason: str | None = None
    remote_ip: str | None = None
    since_ms: int | None = None


_EVENT_INDEXES: dict[str, str | None] = {
    "reference": "event_reference",
    "user_ref": "event_user_ref",
    "outcome": "event_outcome",
    "kind": None,
    "endpoint": None,
}


def event_conditions(chosen: EventFilter) -> list[Condition]:
    """Return what the chosen events have in common, save the time of their receipt."""
    conditions = [
        Condition(expression=getattr(Event, name) == value, index=index)
        for name, index in _EVENT_INDEXES.items()
        if (value := getattr(chosen, name)) is not None
    ]
    if chosen.key is not None:
        conditions.append(_key_condition(chosen.key))
    if chosen.code == "missing":
        code = Event.response_code.is_null()
        conditions.append(Condition(expression=code, index="event_response_code"))
    elif chosen.code is not None:
        code = Event.response_code == chosen.code
        conditions.append(Condition(expression=code, index="event_response_code"))
    if chosen.type is not None:
        conditions.append(_type_condition(chosen.type))
    if chosen.text is not None:  # whatever the case
        conditions.append(Condition(expression=Event.detail.contains(chosen.text)))
    if chosen.is_doubted:
        conditions.append(Condition(expression=IS_DOUBTED, index="event_doubted"))
    if chosen.contradicted:
        expression = Event.id.in_(contradictions.event_ids())
        conditions.append(Condition(expression=expression, is_of_ids=True))
    return conditions


def _key_condition(key: str) -> Condition:
    is_key = Event.key.between(key, f"{key}g")  # a range, which the key's own index serves
    if len(key) < SHORT_KEY:  # very many begin so
        return Condition(expression=fn.COALESCE(Event.key, "").between(key, f"{key}g"))
    return Condition(expression=Event.id.in_(Event.select(Event.id).where(is_key)), is_of_ids=True)


def _type_condition(pattern: str) -> Condition:
    if set("*?") & set(pattern):
        return Condition(expression=fetching.matches(Event.type, pattern))
    return Condition(expression=Event.type == pattern, index="event_type")


def received(chosen: EventFilter) -> list[Expression]:
    """Return the conditions on the time of receipt."""
    at_ms = fn.COALESCE(Event.received_at_ms, 0)  # which no index has: `event_range` was asked
    conditions = []
    if chosen.since_ms is not None:
        conditions.append(at_ms >= chosen.since_ms)
    if chosen.until_ms is not None:
        conditions.append(at_ms < chosen.until_ms)
    return conditions


def event_range(database: Database, chosen: EventFilter) -> tuple[int, int | None]:
    """Return the ids between which the events of the chosen time are: None is the newest.

    Events are stored as they come, so ids and times have the same order, but around a moment when
    somebody set the clock back.
    """
    low, high = 1, None
    if chosen.since_ms is not None:
        first = _edge(database, Event.received_at_ms >= chosen.since_ms, Event.received_at_ms)
        low, high = (1, 0) if first is None else (first, None)
    if chosen.until_ms is not None and high is None:
        before = Event.received_at_ms < chosen.until_ms
        high = _edge(database, before, Event.received_at_ms.desc(), Event.id.desc()) or 0
    return low, high


def _edge(database: Database, condition: Expression, *order: Any) -> int | None:
    query = Event.select(Event.id).from_(By(Event, "event_received")).where(condition)
    found = fetching.tuples(database, query.order_by(*order).limit(1))
    return found[0][0] if found else None


def delivery_conditions(chosen: DeliveryFilter) -> list[Condition]:
    """Return what the chosen deliveries have in common. Of their events they are LEFT JOINed to,
    COALESCE lets SQLite not begin with the events."""
    conditions = []
    if chosen.event_id is not None:
        expression = Delivery.event == chosen.event_id
        conditions.append(Condition(expression=expression, index="delivery_event"))
    if chosen.state == State.DEAD and chosen.action is not None:
        # As text, so that SQLite sees that the index has these rows.
        dead = (Delivery.state == SQL("'dead'")) & (Delivery.action == chosen.action)
        conditions.append(Condition(expression=dead, index="delivery_dead"))
    else:
        for field, value, index in (
            (Delivery.state, chosen.state, "delivery_state"),
            (Delivery.action, chosen.action, None),
        ):
            if value is not None:
                conditions.append(Condition(expression=field == value, index=index))
    if chosen.is_waiting:
        conditions.append(Condition(expression=WAITS_FOR_ANOTHER, index="delivery_waits"))
    if chosen.contradicted:
        expression = Delivery.event.in_(contradictions.event_ids())
        conditions.append(Condition(expression=expression, index="delivery_event"))
    if chosen.type is not None:
        expression = fetching.matches(fn.COALESCE(Event.type, ""), chosen.type)
        conditions.append(Condition(expression=expression))
    if chosen.due_after_ms is not None:
        conditions.append(Condition(expression=Delivery.due_at_ms > chosen.due_after_ms))
    if chosen.since_ms is not None:
        expression = fn.COALESCE(Event.received_at_ms, 0) >= chosen.since_ms
        conditions.append(Condition(expression=expression))
    return conditions


def delivery_range(database: Database, chosen: DeliveryFilter) -> tuple[int, int | None]:
    """Return the ids between which the chosen deliveries are: None is the newest.

    What is of a later event was made later; other hosts' clocks may be an hour off.
    """
    if chosen.delivery_id is not None:
        return chosen.delivery_id, chosen.delivery_id
    if chosen.since_ms is None:
        return 1, None
    return first_since(database, Delivery, Delivery.created_at_ms, chosen.since_ms - HOUR_MS), None


def first_since(database: Database, table: type[Table], at_ms: Field, since_ms: int) -> int:
    """Return the id of the first row since a time, of a table whose rows have ids and times in the
    same order: by halves, a seek for each."""
    ((last,),) = fetching.tuples(database, table.select(fn.MAX(table.id)))
    low, high = 1, (last or 0) + 1
    while low < high:
        middle = (low + high) // 2
        row = (
            table.select(table.id, at_ms)
            .from_(By(table, None))
            .where(table.id >= middle)
            .order_by(table.id)
        )
        [(row_id, made_ms)] = fetching.tuples(database, row.limit(1))
        if isinstance(made_ms, int) and made_ms < since_ms:
            low = row_id + 1
        else:
            high = middle
    return low
