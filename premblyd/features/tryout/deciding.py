"""What a configuration does with a stored event, decided as the daemon decides when one arrives:
reading the body, `types`, `response_codes`, `when`. Begin with Configured.decide. Past
events are read in portions, so that no snapshot of the database is kept for long.

What can't be known is said to be so: what is gone, and what Prembly would answer.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from peewee import JOIN, fn

from premblyd.config.keys import value_of
from premblyd.config.models import Action, Config
from premblyd.config.routing import Routing
from premblyd.features.asking import agreement, answers
from premblyd.features.asking.agreement import Finding
from premblyd.features.asking.questions import Confirmed
from premblyd.features.asking.settings import CONFIRM, PENDING, PREMBLY, StatusQuestion
from premblyd.features.asking.settling import requirement_of
from premblyd.features.asking.tables import Confirmation
from premblyd.ground.times import HOUR_MS
from premblyd.prembly import bodies, conditions, events, payload
from premblyd.prembly.payload import StoredEvent, Verdict
from premblyd.queue.arrivals import EVENT_COLUMNS, usable_event
from premblyd.queue.hooks import runs_erased
from premblyd.queue.queue import BODY_GONE, ERASED
from premblyd.record import lists, queries
from premblyd.record.queries import By
from premblyd.store.engine import Database
from premblyd.store.portions import of_size
from premblyd.store.states import RemovedParts, State
from premblyd.store.tables import Delivery, Event

MOST_ROWS = 500
MOST_BYTES = 4 << 20  # of the bodies of a portion, unless one alone has more


class Recorded(NamedTuple):
    """A delivery, as the record has it."""

    id: int
    event_id: int
    action: str
    state: str
    ran_instead_id: int | None
    confirmed_facts: Any  # None: Prembly has confirmed nothing

    @property
    def has_run(self) -> bool:
        """Whether its hook ran, runs or is to run: not if `once` has skipped it."""
        return self.state != State.SKIPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvent:
    """An event with its deliveries by action. `type`, `response_code` and `outcome` are as its row
    has them. `said`: what its body was found to say, by the places where an endpoint's fields
    are."""

    id: int
    type: str
    response_code: str | None
    outcome: str
    endpoint: str
    removed_parts: str | None
    event: StoredEvent
    deliveries: dict[str, Recorded] = field(default_factory=dict)
    said: dict[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The events from `first_id` to `last_id` that were received at `since_ms` or later."""

    first_id: int
    last_id: int
    since_ms: int


def span(database: Database, since_ms: int, event_id: int | None = None) -> Span:
    """Return the events since a time that are there now, or those of them up to this one."""
    first = lists.first_since(database, Event, Event.received_at_ms, since_ms - HOUR_MS)
    last = queries.value(database, Event.select(fn.MAX(Event.id))) or 0
    last = last if event_id is None else event_id
    return Span(first_id=first, last_id=last, since_ms=since_ms)


def portions(database: Database, span: Span) -> Iterator[list[PastEvent]]:
    """Yield the events, in the order of receipt."""
    start = span.first_id
    while start <= span.last_id:
        ahead = (
            Event.select(Event.id, Event.received_at_ms, Event.body_bytes)
            .from_(By(Event, None))
            .where(Event.id.between(start, span.last_id))
            .order_by(Event.id)
            .limit(MOST_ROWS)
        )
        rows = queries.tuples(database, ahead)
        if not rows:
            return
        sizes = [(row[0], row[2]) for row in rows if row[1] >= span.since_ms]
        for ids in of_size(sizes, MOST_BYTES):
            if ids:
                yield past_events(database, ids)
        start = rows[-1][0] + 1


def past_events(database: Database, ids: Sequence[int]) -> list[PastEvent]:
    """Return these events, as far as they are there."""
    query = _DELIVERIES.where(Delivery.event.in_(ids)).order_by(Delivery.id)
    # Before their events: what is removed meanwhile is left out, and not taken for one that ran
    # nothing.
    deliveries = [Recorded(*row) for row in queries.tuples(database, query)]
    rows = queries.tuples(database, _EVENTS.where(Event.id.in_(ids)).order_by(Event.id))
    found = {each.id: each for each in map(_found, rows)}
    for delivery in deliveries:
        if delivery.event_id in found:
            found[delivery.event_id].deliveries[str(delivery.action)] = delivery
    return list(found.values())


def events_of(database: Database, delivery_ids: Collection[int]) -> dict[int, int]:
    """Return the numbers of the events of these deliveries."""
    if not delivery_ids:
        return {}
    query = Delivery.select(Delivery.id, Delivery.event).where(Delivery.id.in_(list(delivery_ids)))
    return dict(queries.tuples(database, query))


def _found(row: tuple[Any, ...]) -> PastEvent:
    values = dict(zip(EVENT_COLUMNS, row, strict=True))
    names = ("id", "type", "response_code", "outcome", "endpoint", "removed_parts")
    return PastEvent(**{name: values[name] for name in names}, event=usable_event(row))


_EVENTS = Event.select(*(getattr(Event, name) for name in EVENT_COLUMNS))
_DELIVERIES = Delivery.select(
    Delivery.id,
    Delivery.event,
    Delivery.action,
    Delivery.state,
    Delivery.ran_instead,
    Confirmation.facts,
).join(Confirmation, JOIN.LEFT_OUTER, on=(Confirmation.delivery == Delivery.id))


WOULD_ASK = "Prembly would be asked (`confirm`)"
NOT_AWAITED = "it is an answer of Prembly's, and `pending` would not have asked for it"
READ_ELSEWHERE = "`fields` differs, and its body was deleted"
AGAINST_IT = "another event of its reference may say no to Prembly's answer"


class Does(StrEnum):
    """What a configuration does with an event and an action."""

    RUNS = "runs"
    SKIPPED = "skipped"  # by `once`
    NOT = "does not run"
    UNSAID = "can't say"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a configuration does, and why. `verdict`: what the event says then, with what Prembly
    confirmed of it; None: it can't be read."""

    does: Does
    why: str = ""
    verdict: Verdict | None = None


class Configured:
    """One configuration. `before`: the present one; the record is taken to be made with it."""

    def __init__(self, settings: Config, before: "Configured | None" = None) -> None:
        self.settings = settings
        self.actions = {action.name: action for action in settings.actions}
        self.routing = Routing(settings.actions)
        self._endpoints = {endpoint.name: endpoint for endpoint in settings.endpoints}
        self._places = {endpoint.name: repr(endpoint.fields) for endpoint in settings.endpoints}
        prembly = PREMBLY.of(settings)
        self._status = prembly.status if prembly else StatusQuestion()
        self._before = before

    def decide(self, found: PastEvent) -> dict[str, Decision]:
        """Return by action what is done with an event, before `once` is asked; an action that is
        not for it is left out."""
        if found.endpoint not in self._endpoints:
            return {}
        event = found.event
        if event.is_erased:
            return self._unsaid(found, ERASED)
        if event.verified_by == events.STORED_BY and self._asks_less():
            return self._unsaid(found, NOT_AWAITED)
        if not event.has_body:
            return self._without_body(found, event)
        event = self.read(event, found)
        chosen = self.routing.chosen(event).actions
        decided = {each.name: self._confirmed(each, event, found) for each in chosen}
        event.drop_document()
        return decided

    def why_not(self, action: str, found: PastEvent) -> str:
        """Return why an action is not for an event that `decide` leaves out."""
        if found.endpoint not in self._endpoints:
            return f"there is no endpoint {found.endpoint}"
        if action not in self.actions:
            return "there is no action of this name"
        own = self.actions[action]
        if not found.event.has_body:
            told = self.routing.why_not_told(own, found.type, found.response_code)
            return told or f"`when` is false: {own.when.text if own.when else ''}"
        event = self.read(found.event, found)
        failed = self.routing.chosen(event).failed
        if action in failed:
            return f"`when` failed for this event, which counts as no: {failed[action]}"
        return self.routing.why_not(own, event) or ""

    def read(self, event: StoredEvent, found: PastEvent) -> StoredEvent:
        """Return an event as one that comes now is read: its body once, by both configurations if
        they have the same `fields`. Its document may be kept: drop it."""
        if event.verified_by == events.STORED_BY:
            stated = answers.read(event.body, self._status.fields)
            now = stated.verdict if stated else Verdict()
            own = event.verdict.reference  # the record's name of the verification
            return replace(event, verdict=replace(now, reference=own, type=events.STATUS))
        places = self._places[event.endpoint]
        if (said := found.said.get(places)) is not None:
            return replace(event, verdict=said)
        document = bodies.parse(event.body)
        fields = self._endpoints[event.endpoint].fields
        found.said[places] = said = payload.recognise(document, fields)
        read = replace(event, verdict=said)
        read.keep_document(document)
        return read

    def decides_alike(self, action: str, found: PastEvent) -> bool:
        """Return whether the configuration before decides the same of an action and an event,
        whatever that may be."""
        before = self._before
        if before is None or action not in self.actions or action not in before.actions:
            return False
        own, other = self.actions[action], before.actions[action]
        code = found.response_code
        is_answer = found.event.verified_by == events.STORED_BY
        return (
            _asks(own) == _asks(other)
            and self._reads_alike(found)
            and self.routing.takes_code(own, code) == before.routing.takes_code(other, code)
            and not (is_answer and self._asks_less())
        )

    def _asks_less(self) -> bool:
        """Return whether Prembly is not asked any more what became of what is pending."""
        is_asked_before = self._before is None or PENDING.of(self._before.settings) is not None
        return is_asked_before and PENDING.of(self.settings) is None

    def _reads_alike(self, found: PastEvent) -> bool:
        """Return whether bodies and answers are read as the configuration before reads them."""
        before = self._before
        if before is None or found.endpoint not in before._endpoints:
            return False
        own, other = self._endpoints.get(found.endpoint), before._endpoints[found.endpoint]
        return own is not None and repr((own.fields, self._status)) == repr(
            (other.fields, before._status)
        )

    def _unsaid(self, found: PastEvent, why: str) -> dict[str, Decision]:
        """Return that of the actions which type and code leave open nothing can be said."""
        decision = Decision(does=Does.UNSAID, why=why)
        return {each.name: decision for each in self._told(found)}

    def _told(self, found: PastEvent) -> list[Action]:
        """Return the actions that may be for an event, as its row tells. Where its code stands
        elsewhere by now, that says nothing."""
        type_, code, actions = found.type, found.response_code, self.actions.values()
        if self._reads_alike(found):
            return [
                each for each in actions if self.routing.why_not_told(each, type_, code) is None
            ]
        return [each for each in actions if events.matches(each.types, type_)]

    def _without_body(self, found: PastEvent, event: StoredEvent) -> dict[str, Decision]:
        """Decide by what is left of an event whose body was removed, as far as that says it."""
        if not self._reads_alike(found):
            return self._unsaid(found, READ_ELSEWHERE)
        event.keep_document(None)
        lost = {"body"} if found.removed_parts == RemovedParts.BODY else set(payload.WHEN_NAMES)
        decided = {}
        for action in self._told(found):
            looks_at = conditions.names(action.when) if action.when else set()
            if CONFIRM.of(action) or value_of("once", action):
                looks_at.add("reference")
            if looks_at & lost:
                decided[action.name] = Decision(does=Does.UNSAID, why=BODY_GONE)
            elif self.routing.why_not(action, event) is None:
                decided[action.name] = self._confirmed(action, event, found)
        return decided

    def _confirmed(self, action: Action, event: StoredEvent, found: PastEvent) -> Decision:
        """Return what is done with an event that an action is for: with `confirm`, by what Prembly
        has answered when it was asked for this event and action, where that is kept."""
        verdict = event.verdict
        if CONFIRM.of(action) is None or event.verified_by == events.STORED_BY:
            return Decision(does=Does.RUNS, verdict=verdict)
        if answers.question_about(verdict) is None:
            return Decision(does=Does.NOT, why=answers.NOTHING_TO_ASK_BY)
        facts = _facts(found.deliveries.get(action.name))
        if not facts or verdict.doubt or not self._reads_alike(found):
            return Decision(does=Does.UNSAID, why=WOULD_ASK, verdict=verdict)
        requirement = requirement_of(action, event, self.routing)
        found_again = agreement.decide_again(verdict, facts, requirement)
        match found_again.finding:
            case Finding.CONFIRMED:
                return Decision(does=Does.RUNS, verdict=found_again.verdict)
            case Finding.CONTRADICTED:
                return Decision(does=Does.NOT, why=found_again.words)
        why = f"{WOULD_ASK}: {found_again.words}"
        return Decision(does=Does.UNSAID, why=why, verdict=verdict)


def _asks(action: Action) -> tuple[Any, ...]:
    """Return by what an action is chosen for an event."""
    when = action.when.text if action.when else None
    codes = sorted(set(action.response_codes))
    own = (CONFIRM.of(action), value_of("once", action), runs_erased(action))
    return (sorted(set(action.types)), codes, when, *own)


def _facts(delivery: Recorded | None) -> Mapping[str, Any] | None:
    """Return what Prembly's answer stated that has confirmed a delivery; None: nothing has."""
    if delivery is None:
        return None
    try:
        return Confirmed.read(delivery.confirmed_facts).facts
    except (ValueError, TypeError):  # none, or one that was changed
        return None
