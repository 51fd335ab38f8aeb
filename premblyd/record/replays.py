"""A replay: which deliveries are queued again, tried now or created, and which are not. Begin with
`plan`, which `changes` carries out."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from peewee import fn

from premblyd.config.models import Action, Config
from premblyd.config.routing import Routing
from premblyd.feature import added
from premblyd.ground.errors import NotFoundError, PremblydError
from premblyd.prembly.payload import StoredEvent
from premblyd.queue import hooks
from premblyd.queue.arrivals import EVENT_COLUMNS, usable_event
from premblyd.queue.inbox import NewDelivery
from premblyd.record import queries
from premblyd.record.filters import DeliveryFilter
from premblyd.record.listing import Veto
from premblyd.record.operating import Change, Operator
from premblyd.record.queries import MOST_ROWS
from premblyd.store.engine import Database
from premblyd.store.states import FINISHED, State
from premblyd.store.tables import Delivery, Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which deliveries an operator asks to have replayed."""

    chosen: DeliveryFilter
    is_new: bool = False  # only deliveries that are not there yet
    allowed: Collection[str] = ()  # also what these vetoes leave out

    @property
    def hastens(self) -> bool:
        """Whether it means pending deliveries too."""
        return self.chosen.state == State.PENDING or self.chosen.delivery_id is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDelivery:
    """A delivery that an operator's command is about."""

    id: int
    event_id: int
    action: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a replay will do."""

    finished: Sequence[FoundDelivery] = ()  # to be queued again
    pending: Sequence[FoundDelivery] = ()  # to be tried now
    new_for: Sequence[int] = ()  # events that get a delivery of `action`
    action: Action | None = None
    left: Mapping[str, int] = field(default_factory=dict)  # left alone: how many, by why

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


def require_action(database: Database, settings: Config | None, name: str) -> None:
    """Raise PremblydError for an action that nobody knows. `settings`: None if the configuration
    is not known."""
    if settings is None or name not in {action.name for action in settings.actions}:
        of_it = Delivery.select(Delivery.id).where(Delivery.action == name)
        if queries.value(database, of_it) is None:
            raise PremblydError(f"There is no action {name}.")


def plan(database: Database, settings: Config, request: Request) -> Plan:
    """Return what `request` amounts to. Raise NotFoundError for a delivery that is not there,
    PremblydError for an action that nobody knows."""
    actions = {action.name: action for action in settings.actions}
    chosen = request.chosen
    if chosen.action is not None:
        require_action(database, settings, chosen.action)
    if request.is_new and chosen.action in actions:
        return _plan_new(database, settings, request, actions[chosen.action])
    if chosen.delivery_id is not None:
        find_delivery(database, chosen.delivery_id)
    found = find_deliveries(database, chosen)
    against = _vetoed(database, request, (each.event_id for each in found))
    finished, pending = [], []
    left: Counter[str] = Counter()
    for each in found:
        if each.action not in actions:
            left[f"the configuration has no action {each.action}"] += 1
        elif each.state not in FINISHED:
            if request.hastens and each.state == State.PENDING:
                pending.append(each)
            else:
                left["they are pending or running"] += 1
        elif veto := _first(against[each.event_id], actions[each.action].hook.gets_body):
            left[veto.why] += 1
        else:
            finished.append(each)
    return Plan(finished=finished, pending=pending, left=left)


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


def find_deliveries(database: Database, chosen: DeliveryFilter) -> list[FoundDelivery]:
    """Return the deliveries that a command is about, oldest first."""
    query = Delivery.select(*queries.columns(Delivery, FoundDelivery))
    if any(each is not None for each in (chosen.since_ms, chosen.until_ms, chosen.type)):
        query = query.join(Event)
    for condition in chosen.conditions(database):
        query = query.where(condition.expression)
    return queries.whole(database, query, Delivery.id, FoundDelivery)


def _plan_new(database: Database, settings: Config, request: Request, action: Action) -> Plan:
    routing = Routing(settings.actions)
    left: Counter[str] = Counter()
    new_for = []
    chosen = request.chosen
    found = _events_without(database, action.name, chosen.event_id, chosen.since_ms)
    against = _vetoed(database, request, (event.id for event in found))
    needs_body = action.hook.gets_body or action.when is not None
    for event in found:
        why_not = routing.why_not_told(action, event.type, event.response_code)
        if why_not is None and (veto := _first(against[event.id], needs_body)):
            why_not = veto.why
        if why_not is None and action.when is not None:  # only now is the body read
            why_not = routing.why_not(action, _stored_event(database, event.id))
        if why_not is None:
            new_for.append(event.id)
        else:
            left[why_not] += 1
    return Plan(new_for=new_for, action=action, left=left)


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


def _first(against: Sequence[Veto], needs_body: bool) -> Veto | None:
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
