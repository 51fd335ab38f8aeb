"""A replay: which deliveries are queued again, tried now or created, and which are not. Begin with
`plan`, which `changes` carries out."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from peewee import ModelSelect, fn

from premblyd.config.keys import value_of
from premblyd.config.models import Action, Config
from premblyd.config.routing import Routing
from premblyd.feature import added
from premblyd.ground.errors import NotFoundError, PremblydError
from premblyd.prembly.payload import StoredEvent
from premblyd.queue import hooks
from premblyd.queue.arrivals import EVENT_COLUMNS, usable_event
from premblyd.queue.inbox import NewDelivery
from premblyd.record import queries, unknown
from premblyd.record.filters import DeliveryFilter
from premblyd.record.listing import Veto
from premblyd.record.operating import Change, Operator
from premblyd.record.queries import MOST_ROWS
from premblyd.store.engine import Database
from premblyd.store.states import FINISHED, State
from premblyd.store.tables import Delivery, Event

COUNTED = 100_000


# Of one that `once` has skipped, and that names no other.
RAN_BEFORE = (
    "an earlier delivery for the same reference and outcome succeeded, and was deleted since"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which deliveries an operator asks to have replayed. With `limit`, a step of it: at most so
    many, with higher numbers than `after_id`."""

    chosen: DeliveryFilter
    is_new: bool = False  # only deliveries that are not there yet
    allowed: Collection[str] = ()  # also what these vetoes leave out
    after_id: int = 0
    limit: int | None = None

    @property
    def is_pending(self) -> bool:
        return self.chosen.state == State.PENDING

    @property
    def may_be_new(self) -> bool:
        """Whether events may get a delivery that they don't have: it names an action and events."""
        chosen = self.chosen
        names_events = chosen.event_id is not None or chosen.since_ms is not None
        is_narrow = any(each is not None for each in (chosen.type, chosen.until_ms, chosen.error))
        return names_events and chosen.action is not None and chosen.state is None and not is_narrow


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDelivery:
    """A delivery that an operator's command is about."""

    id: int
    event_id: int
    action: str
    state: str
    ran_instead_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a replay will do."""

    found: Sequence[FoundDelivery] = ()  # what was asked for, as far as it is there
    finished: Sequence[FoundDelivery] = ()  # to be queued again
    pending: Sequence[FoundDelivery] = ()  # to be tried now
    new_for: Sequence[int] = ()  # events that get a delivery of `action`
    action: Action | None = None
    unfinished: int = 0  # left alone: pending or running
    waiting: int = 0  # left alone: by `order` it waits for another
    left_out: Mapping[str, int] = field(default_factory=dict)  # left alone: by their vetoes
    without_action: Mapping[str, int] = field(default_factory=dict)
    not_for: Mapping[str, int] = field(default_factory=dict)  # events, by why the action is not
    # Of `finished`: what is skipped once more, as another has succeeded that stays as it is.
    skipped_again: Sequence[FoundDelivery] = ()

    def __len__(self) -> int:
        return len(self.finished) + len(self.pending) + len(self.new_for)

    @property
    def counts(self) -> Counter[str]:
        """How many deliveries it queues, by their actions."""
        counts = Counter(each.action for each in (*self.finished, *self.pending))
        if self.action and self.new_for:
            counts[self.action.name] += len(self.new_for)
        return counts


def vetoes() -> tuple[Veto, ...]:
    """Return what features let a replay leave out; of two the first counts."""
    return tuple(added("listing", "VETOES"))


def plan(database: Database, settings: Config, request: Request, now_ms: int) -> Plan:
    """Return what `request` amounts to now. Raise NotFoundError for a delivery that is not there,
    PremblydError for an action that nobody knows."""
    actions = {action.name: action for action in settings.actions}
    chosen = request.chosen
    if chosen.delivery_id is not None:
        find_delivery(database, chosen.delivery_id)
    is_begun = request.after_id > 0  # then it was looked for: that reads all deliveries
    if chosen.action is not None and not is_begun:
        words = unknown.action(database, settings, chosen.action)
        if words:
            raise PremblydError(words)
    later = dataclasses.replace(chosen, due_after_ms=now_ms) if request.is_pending else chosen
    found = find_deliveries(database, later, request.after_id, request.limit)
    action = actions.get(chosen.action or "")
    if action is not None and request.may_be_new and (request.is_new or not found):
        return _plan_new(database, settings, request, action)
    kept = [each for each in found if each.action in actions]
    gone = [each for each in found if each.action not in actions]
    if request.is_pending:
        waiting = dataclasses.replace(chosen, state=None, is_held=True)
        return Plan(
            found=found,
            pending=kept,
            waiting=len(find_deliveries(database, waiting)),
            without_action=Counter(each.action for each in gone),
        )
    ended = [each for each in kept if each.state in FINISHED]
    against = _vetoed(database, request, (each.event_id for each in ended))
    left_out: Counter[str] = Counter()
    finished = []
    for each in ended:
        needs_body = actions[each.action].hook.gets_body
        if (veto := _first(against[each.event_id], needs_body=needs_body)) is None:
            finished.append(each)
        else:
            left_out[veto.name] += 1
    replayed = {each.id for each in finished}
    return Plan(
        found=found,
        finished=finished,
        left_out=left_out,
        skipped_again=[
            each
            for each in finished
            if each.state == State.SKIPPED
            and value_of("once", actions[each.action]) is not None
            and each.ran_instead_id not in replayed
        ],
        unfinished=sum(each.state not in FINISHED for each in found),
        without_action=Counter(each.action for each in gone if each.state in FINISHED),
    )


def next_step(plan: Plan, request: Request) -> Request | None:
    """Return the request for the step after the one of this plan; None: it was the last."""
    if request.limit is None or len(plan.found) < request.limit:
        return None
    return dataclasses.replace(request, after_id=plan.found[-1].id)


def changes(plan: Plan, operator: Operator, settings: Config, now_ms: int) -> Iterator[Change[int]]:
    """Yield what carries out the plan, a transaction each, which returns how many deliveries it
    queued."""
    actions = {action.name: action for action in settings.actions}
    # What waits in a line joins it one by one: in the order of receipt.
    again = sorted(plan.finished, key=lambda delivery: (delivery.event_id, delivery.id))
    attempts = {each.id: actions[each.action].retry.attempts for each in again}
    terms = {each.id: hooks.terms_of(actions[each.action]) for each in again}
    yield from operator.replay(attempts, now_ms, terms)
    yield from operator.make_due_now([delivery.id for delivery in plan.pending], now_ms)
    if plan.action is not None:
        new = NewDelivery.of(plan.action)
        yield from operator.add(sorted(plan.new_for), new.action, new.attempts, now_ms, new.terms)


def find_delivery(database: Database, delivery_id: int) -> FoundDelivery:
    """Return a delivery by its number. Raise NotFoundError when there is none."""
    found = find_deliveries(database, DeliveryFilter(delivery_id=delivery_id))
    if not found:
        raise NotFoundError(
            f"There is no delivery {delivery_id}. `premblyd deliveries` lists them."
        )
    return found[0]


def find_deliveries(
    database: Database, chosen: DeliveryFilter, after_id: int = 0, limit: int | None = None
) -> list[FoundDelivery]:
    """Return the deliveries that a command is about, oldest first: at most `limit`, with higher
    numbers than `after_id`."""
    query = _chosen(database, chosen, *queries.columns(Delivery, FoundDelivery))
    return queries.whole(
        database, query, Delivery.id, FoundDelivery, after_id=after_id, limit=limit
    )


def count_deliveries(database: Database, chosen: DeliveryFilter) -> int:
    """Return how many deliveries are chosen; no more than COUNTED are counted."""
    return queries.count(database, _chosen(database, chosen, Delivery.id), COUNTED)


def _chosen(database: Database, chosen: DeliveryFilter, *columns: Any) -> "ModelSelect[Any]":
    query = Delivery.select(*columns)
    if any(each is not None for each in (chosen.since_ms, chosen.until_ms, chosen.type)):
        query = query.join(Event)
    for condition in chosen.conditions(database):
        query = query.where(condition.expression)
    return query


def _plan_new(database: Database, settings: Config, request: Request, action: Action) -> Plan:
    routing = Routing(settings.actions)
    not_for: Counter[str] = Counter()
    new_for = []
    chosen = request.chosen
    found = _events_without(database, action.name, chosen.event_id, chosen.since_ms)
    against = _vetoed(database, request, (event.id for event in found))
    needs_body = action.hook.gets_body or action.when is not None
    for event in found:
        why_not = routing.why_not_told(action, event.type, event.response_code)
        if why_not is None and (veto := _first(against[event.id], needs_body=needs_body)):
            why_not = veto.why_not
        if why_not is None and action.when is not None:  # only now is the body read
            why_not = routing.why_not(action, _stored_event(database, event.id))
        if why_not is None:
            new_for.append(event.id)
        else:
            not_for[why_not] += 1
    return Plan(new_for=new_for, action=action, not_for=not_for)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEvent:
    """An event that has no delivery of an action, its type and its response code."""

    id: int
    type: str
    response_code: str | None


def _vetoed(
    database: Database, request: Request, event_ids: Iterable[int]
) -> Mapping[int, list[Veto]]:
    """Return by event what has the replay leave it out."""
    numbers = sorted({*event_ids})
    found = defaultdict[int, list[Veto]](list)
    for veto in vetoes():
        for start in range(0, 0 if veto.name in request.allowed else len(numbers), MOST_ROWS):
            for event_id in veto.find(database, numbers[start : start + MOST_ROWS]):
                found[event_id].append(veto)
    return found


def _first(against: Sequence[Veto], *, needs_body: bool) -> Veto | None:
    return next((veto for veto in against if needs_body or not veto.is_about_body), None)


def _events_without(
    database: Database, action: str, event_id: int | None, since_ms: int | None
) -> list[FoundEvent]:
    """Return the events that have no delivery of `action`, oldest first."""
    of_action = Delivery.select(Delivery.id).where(
        Delivery.event == Event.id, Delivery.action == action
    )
    query = Event.select(*queries.columns(Event, FoundEvent)).where(~fn.EXISTS(of_action))
    if event_id is not None:
        query = query.where(Event.id == event_id)
    if since_ms is not None:
        query = query.where(Event.received_at_ms >= since_ms)
    return queries.whole(database, query, Event.id, FoundEvent)


def _stored_event(database: Database, event_id: int) -> StoredEvent:
    """Return an event as its hooks get it. Raise UnusableError when somebody has changed it so
    that none can."""
    columns = [getattr(Event, name) for name in EVENT_COLUMNS]
    (row,) = queries.tuples(database, Event.select(*columns).where(Event.id == event_id))
    return usable_event(row)
