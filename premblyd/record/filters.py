"""The filters of lists.

A filter is one field of one of these classes, and that is all there is to it: what it asks of the
rows, by which index, and how commands and the console offer it. Both are made of these classes.
"""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any

from peewee import SQL, Expression, Field, fn

from premblyd.features.asking.tables import Awaited
from premblyd.prembly.payload import Outcome
from premblyd.record import criteria, queries
from premblyd.record.criteria import Condition
from premblyd.store.engine import Database
from premblyd.store.states import AwaitedState, State
from premblyd.store.tables import (
    IS_DOUBTED,
    IS_WHOLE,
    WAITS_FOR_ANOTHER,
    Delivery,
    Event,
    OperatorAction,
    Rejection,
)

Where = Callable[[Database, Any], Condition]
SHORT_KEY = 4  # hex digits
KINDS = ("api", "sdk", "raw")


class Reads(Enum):
    """What people type for a filter."""

    TEXT = auto()
    WORD = auto()  # one of its choices
    TYPE = auto()  # of events, or a pattern such as transaction.*
    TIME = auto()  # or how long ago
    KEY = auto()  # of an event, or its beginning
    EVENT = auto()  # its number or key
    ROW = auto()  # its number
    YES = auto()  # nothing: it is asked for or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One way to choose. `help` is a command's (none: it has no such option), `title` and `hint`
    are of the console's field (none: only links ask for it, as with `is_linked`)."""

    where: Where
    reads: Reads
    choices: tuple[str, ...] = ()
    is_linked: bool = False
    probes: bool = False  # by its answers one learns what is masked letter by letter
    help: str = ""
    option: str = ""  # the command's word for it, where it is another
    title: str = ""
    hint: str = ""
    field: str = ""
    name: str = ""

    @property
    def is_offered(self) -> bool:
        return bool(self.help or self.title or self.is_linked)


def filters_of(kind: "type[Chosen]") -> tuple[Filter, ...]:
    """Return the filters of a list, each with its name as people know it."""
    return tuple(
        dataclasses.replace(
            each.metadata["filter"],
            field=each.name,
            name=re.sub("^is_|_ms$|_id$", "", each.name),
        )
        for each in dataclasses.fields(kind)
    )


def _by(
    where: Where, title: str = "", option_help: str = "", *, reads: Reads = Reads.TEXT, **more: Any
) -> Any:
    reads = Reads.WORD if more.get("choices") else reads
    about = Filter(where=where, title=title, help=option_help, reads=reads, **more)
    default = False if reads is Reads.YES else None
    return dataclasses.field(default=default, metadata={"filter": about})


def _time(where: Where, title: str, option_help: str = "", hint: str = "12h, 2026-01-31") -> Any:
    return _by(where, title, option_help, reads=Reads.TIME, hint=hint)


def _flag(where: Where, title: str, option_help: str) -> Any:
    return _by(where, title, option_help, reads=Reads.YES)


def _words(kind: type[StrEnum]) -> tuple[str, ...]:
    return tuple(each.value for each in kind)


def _where(expression: Callable[[Any], Expression], **about: Any) -> Where:
    return lambda _, value: Condition(expression=expression(value), **about)


def _is(field: Field, index: str | None = None) -> Where:
    return _where(lambda value: field == value, index=index)


def _since(at_ms: Any, **about: Any) -> Where:
    return _where(lambda since_ms: at_ms >= since_ms, **about)


def _until(at_ms: Any, **about: Any) -> Where:
    return _where(lambda until_ms: at_ms < until_ms, **about)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which rows of a list are meant; None and False do not filter. Times in Unix milliseconds."""

    def conditions(self, database: Database) -> list[Condition]:
        """Return what the rows have in common."""
        return [
            each.where(database, value)
            for each in filters_of(type(self))
            if (value := getattr(self, each.field)) is not None and value is not False
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter(Chosen):
    """Which events."""

    find: str | None = _by(
        criteria.by_any_name,
        "Find",
        "Only those with this number, key or user_ref, or a reference that begins with it.",
        hint="number, key, reference, user ref",
    )
    handled: str | None = _by(
        criteria.is_handled,
        "Handled",
        "Only those whose worst delivery is in this state; none: no action matched.",
        choices=criteria.HANDLED,
    )
    code: str | None = _by(
        by_code,
        "Code",
        "Only this response code; `missing` for events without one.",
        hint="00, missing",
    )
    outcome: str | None = _by(
        _is(Event.outcome, "event_outcome"),
        "Outcome",
        "Only this outcome.",
        choices=_words(Outcome),
    )
    type: str | None = _by(by_type, "Type", "Only this type, or transaction.*", **_TYPE)
    kind: str | None = _by(_is(Event.kind), "Kind", choices=KINDS)
    reference: str | None = _by(
        _is(Event.reference, "event_reference"),
        "Reference",
        "Only this reference of Prembly.",
    )
    user_ref: str | None = _by(
        _is(Event.user_ref, "event_user_ref"),
        "User ref",
        "Only this reference of a person (user_ref).",
    )
    since_ms: int | None = _time(
        _since(_received_at, is_in_range=True),
        "Since",
        "Only received at or after: 2026-01-31, 12h.",
    )
    until_ms: int | None = _time(
        _until(_received_at, is_in_range=True), "Until", "Only received before.", _UNTIL
    )
    text: str | None = _by(_where(Event.detail.contains), "Detail contains", probes=True)
    whole_name: str | None = _by(criteria.by_whole_name)  # `find`, for who may not see all
    endpoint: str | None = _by(_is(Event.endpoint), is_linked=True)
    key: str | None = _by(
        _key, "", "Only the event with this key, or its first digits.", reads=Reads.KEY
    )
    contradicted: bool = _flag(
        _where(lambda _: Event.id.in_(criteria.contradicted_ids()), is_of_ids=True),
        "Contradicted",
        "Only those that Prembly contradicted when asked to confirm.",
    )
    is_doubted: bool = _flag(
        _where(lambda _: IS_DOUBTED, index="event_doubted"),
        "Doubted",
        "Only those that say VERIFIED, but also something that does not fit.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter(Chosen):
    """Which deliveries. Of their events, which they are LEFT JOINed to, COALESCE lets SQLite not
    begin with the events."""

    state: str | None = _by(
        _is(Delivery.state, "delivery_state"), "State", "Only this state.", choices=_words(State)
    )
    action: str | None = _by(_is(Delivery.action), "Action", "Only this action.")
    type: str | None = _by(
        _where(lambda pattern: queries.matches(fn.COALESCE(Event.type, ""), pattern)),
        "Type",
        "Only of this type, or transaction.*",
        **_TYPE,
    )
    since_ms: int | None = _time(
        _since(_received_at), "Received since", "Only of events received since."
    )
    until_ms: int | None = _time(
        _until(_received_at), "Received until", "Only of events received before.", _UNTIL
    )
    error: str | None = _by(
        _where(Delivery.last_error.contains),
        "Error contains",
        "Only with these words in the last error.",
        probes=True,
    )
    event_id: int | None = _by(
        _is(Delivery.event, "delivery_event"),
        "",
        "Only of this event: its number or key.",
        reads=Reads.EVENT,
    )
    is_blocked: bool = _flag(
        _where(lambda _: WAITS_FOR_ANOTHER, index="delivery_waits"),
        "",
        "Only those that wait for another (order).",
    )
    contradicted: bool = _flag(
        _where(lambda _: Delivery.event.in_(criteria.contradicted_ids()), index="delivery_event"),
        "Contradicted",
        "Only of events that Prembly contradicted.",
    )
    ids: tuple[int, ...] | None = _by(_where(Delivery.id.in_))
    delivery_id: int | None = _by(_is(Delivery.id))
    due_after_ms: int | None = _by(
        _where(lambda due_ms: fn.COALESCE(Delivery.due_at_ms, 0) > due_ms)
    )

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

    reason: str | None = _by(
        _is(Rejection.reason),
        "Reason",
        "Only refused for this reason, such as 'wrong signature'.",
        hint="wrong signature",
    )
    remote_ip: str | None = _by(
        _is(Rejection.remote_ip), "From", "Only from this address.", option="ip", hint="192.0.2.7"
    )
    since_ms: int | None = _time(
        _since(Rejection.at_ms), "Since", "Only refused at or after: 2026-01-31, 12h."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedFilter(Chosen):
    """Which of what was awaited."""

    state: str | None = _by(
        _is(Awaited.state), "", "Only this state.", choices=_words(AwaitedState)
    )
    reference: str | None = _by(
        _is(Awaited.reference, "awaited_reference"), "", "Only with this reference."
    )
    since_ms: int | None = _time(_since(Awaited.created_at_ms), "", "Only those that began since.")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFilter(Chosen):
    """Which of what people did; of a replay of many only all of it, without `part_of_id`."""

    action: str | None = _by(_is(OperatorAction.action), "Did", hint="replay, reveal")
    actor: str | None = _by(_where(OperatorAction.actor.contains), "Who")
    since_ms: int | None = _time(_since(OperatorAction.at_ms), "Since")
    part_of_id: int | None = _by(
        _is(OperatorAction.part_of_id, "operator_action_part"), reads=Reads.ROW, is_linked=True
    )

    def conditions(self, database: Database) -> list[Condition]:
        found = Chosen.conditions(self, database)
        if self.part_of_id is None:
            found.append(Condition(expression=IS_WHOLE, index="operator_action_whole"))
        return found
