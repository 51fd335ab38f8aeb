"""What a replay is about: which deliveries are queued again, tried now or made, and which not."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from peewee import Database

from premblyd.config.models import Action, Config
from premblyd.errors import PremblydError
from premblyd.model.states import FINISHED, State
from premblyd.record import reading, unknowns
from premblyd.record.choosing import DeliveryFilter
from premblyd.record.operating import BATCH, Change, Operator
from premblyd.record.rows import FoundDelivery
from premblyd.rereading import Rereading
from premblyd.routing import Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which deliveries an operator asks to have replayed; None does not filter."""

    event_id: int | None = None
    delivery_id: int | None = None
    is_dead: bool = False
    is_pending: bool = False
    is_new: bool = False  # only deliveries that are not there yet
    action: str | None = None
    since_ms: int | None = None
    may_be_contradicted: bool = False  # also what is of events that Prembly contradicted

    @property
    def state(self) -> State | None:
        if self.is_pending:
            return State.PENDING
        return State.DEAD if self.is_dead else None

    @property
    def may_be_new(self) -> bool:
        """Whether events may get a delivery that they don't have: it names an action and events."""
        names_events = self.event_id is not None or self.since_ms is not None
        return names_events and self.action is not None and self.state is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a replay will do."""

    finished: tuple[FoundDelivery, ...] = ()  # to be queued again
    pending: tuple[FoundDelivery, ...] = ()  # to be tried now
    new_for: tuple[int, ...] = ()  # events that get a delivery of `action`
    action: Action | None = None
    unfinished: int = 0  # left alone: pending or running
    waiting: int = 0  # left alone: by `order` it waits for another
    contradicted: int = 0  # left alone: of events that Prembly contradicted
    without_action: Mapping[str, int] = field(default_factory=dict)
    not_for: Mapping[str, int] = field(default_factory=dict)  # events, by why the action is not
    # Of `finished`: what is skipped once more, as another has succeeded that stays as it is.
    skipped_again: tuple[FoundDelivery, ...] = ()

    def __len__(self) -> int:
        return len(self.finished) + len(self.pending) + len(self.new_for)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """Dead deliveries, to be read a step at a time: of an action, or some by their numbers."""

    action: str | None = None
    delivery_ids: tuple[int, ...] | None = None

    def after(self, delivery_id: int) -> Callable[[Database], list[FoundDelivery]]:
        """Return what reads the next ones, up to BATCH, with higher numbers than this."""
        return lambda database: reading.find_dead(
            database,
            action=self.action,
            delivery_ids=self.delivery_ids,
            after_id=delivery_id,
            limit=BATCH,
        )


def plan(database: Database, settings: Config, request: Request, now_ms: int) -> Plan:
    """Return what `request` amounts to now. Raise NotFoundError for a delivery that is not there,
    PremblydError for an action that nobody knows."""
    actions = {action.name: action for action in settings.actions}
    if request.delivery_id is not None:
        reading.find_delivery(database, request.delivery_id)
    if request.action is not None and (
        unknown := unknowns.of_action(database, settings, request.action)
    ):
        raise PremblydError(unknown)
    found = reading.find_deliveries(
        database,
        DeliveryFilter(
            event_id=request.event_id,
            delivery_id=request.delivery_id,
            state=request.state,
            action=request.action,
            since_ms=request.since_ms,
            due_after_ms=now_ms if request.is_pending else None,
        ),
    )
    action = actions.get(request.action or "")
    if action is not None and request.may_be_new and (request.is_new or not found):
        return _plan_new(database, settings, request, action)
    kept = [delivery for delivery in found if delivery.action in actions]
    gone = [delivery for delivery in found if delivery.action not in actions]
    if request.is_pending:
        return Plan(
            pending=tuple(kept),
            waiting=_count_waiting(database, request),
            without_action=_count_by_action(gone),
        )
    ended = [delivery for delivery in kept if delivery.state in FINISHED]
    finished = tuple(
        delivery for delivery in ended if request.may_be_contradicted or not delivery.contradicted
    )
    return Plan(
        finished=finished,
        contradicted=len(ended) - len(finished),
        skipped_again=_skipped_again(finished, actions),
        unfinished=sum(delivery.state not in FINISHED for delivery in found),
        without_action=_count_by_action(
            delivery for delivery in gone if delivery.state in FINISHED
        ),
    )


def changes(plan: Plan, operator: Operator, settings: Config, now_ms: int) -> Iterator[Change[int]]:
    """Yield what carries out the plan, a transaction each, which returns how many deliveries it
    queued."""
    actions = {action.name: action for action in settings.actions}
    # With `order`, those of one reference join its line one by one: in the order of receipt.
    again = sorted(plan.finished, key=lambda delivery: (delivery.event_id, delivery.id))
    attempts = {each.id: actions[each.action].retry.attempts for each in again}
    thens = {each.id: actions[each.action].then for each in again}
    yield from operator.replay(list(attempts), attempts, now_ms, thens)
    yield from operator.hasten([delivery.id for delivery in plan.pending], now_ms)
    if plan.action is not None:
        action = plan.action
        yield from operator.add(
            sorted(plan.new_for), action.name, action.retry.attempts, now_ms, action.then
        )


def _count_waiting(database: Database, request: Request) -> int:
    return len(
        reading.find_deliveries(
            database,
            DeliveryFilter(
                event_id=request.event_id,
                delivery_id=request.delivery_id,
                action=request.action,
                since_ms=request.since_ms,
                is_waiting=True,
            ),
        )
    )


def _count_by_action(deliveries: Iterable[FoundDelivery]) -> Mapping[str, int]:
    return Counter(delivery.action for delivery in deliveries)


def _skipped_again(
    finished: Sequence[FoundDelivery], actions: Mapping[str, Action]
) -> tuple[FoundDelivery, ...]:
    replayed = {delivery.id for delivery in finished}
    return tuple(
        delivery
        for delivery in finished
        if delivery.state is State.SKIPPED
        and actions[delivery.action].once is not None
        and delivery.ran_instead_id not in replayed
    )


def _plan_new(database: Database, settings: Config, request: Request, action: Action) -> Plan:
    routing, rereading = Routing(settings.actions), Rereading(settings)
    not_for: Counter[str] = Counter()
    new_for = []
    for event in reading.events_without(
        database, action.name, event_id=request.event_id, since_ms=request.since_ms
    ):
        why_not = None
        is_read = (
            event.type is not None and event.doubt is not None
        )  # else its body may say what its row does not
        if is_read:
            why_not = routing.why_not_told(action, event.type, event.response_code)
        if event.contradicted and not request.may_be_contradicted:
            why_not = "Prembly contradicted it"
        needs_body = action.when is not None or not is_read
        if why_not is None and needs_body:  # only now is the body read
            stored = reading.stored_event(database, event.id)
            why_not = routing.why_not(action, stored if is_read else rereading.event(stored))
        if why_not is None:
            new_for.append(event.id)
        else:
            not_for[why_not] += 1
    return Plan(new_for=tuple(new_for), action=action, not_for=not_for)
