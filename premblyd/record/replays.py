"""What a replay is about: which deliveries are queued again, tried now or made, and which not."""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from premblyd.config.models import Action, Config
from premblyd.errors import PremblydError
from premblyd.record.operating import FoundDelivery, Operator, ReplayFilter
from premblyd.routing import Matching
from premblyd.store.models import FINISHED, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for; None does not filter."""

    event_id: int | None = None
    delivery_id: int | None = None
    is_dead: bool = False
    is_pending: bool = False
    is_new: bool = False  # only deliveries that are not there yet
    action: str | None = None
    since_ms: int | None = None

    @property
    def state(self) -> State | None:
        if self.is_pending:
            return State.PENDING
        return State.DEAD if self.is_dead else None

    @property
    def may_be_new(self) -> bool:
        """Whether it names an action, and events that may not have a delivery of it."""
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
    without_action: Mapping[str, int] = field(default_factory=dict)
    not_for: Mapping[str, int] = field(default_factory=dict)  # events, by why the action is not

    def __len__(self) -> int:
        return len(self.finished) + len(self.pending) + len(self.new_for)


def plan(operator: Operator, settings: Config, wanted: Wanted, now_ms: int) -> Plan:
    """Return what `wanted` amounts to now. Raise PremblydError for an action that nobody knows."""
    actions = {action.name: action for action in settings.actions}
    if wanted.action is not None and wanted.action not in actions:
        _require_known(wanted.action, {*actions, *operator.actions()})
    found = operator.find(
        ReplayFilter(
            event_id=wanted.event_id,
            delivery_id=wanted.delivery_id,
            state=wanted.state,
            action=wanted.action,
            since_ms=wanted.since_ms,
            due_after_ms=now_ms if wanted.is_pending else None,
        )
    )
    action = actions.get(wanted.action or "")
    if action is not None and wanted.may_be_new and (wanted.is_new or not found):
        return _plan_new(operator, settings, wanted, action)
    gone = Counter(one.action for one in found if one.action not in actions)
    kept = [one for one in found if one.action in actions]
    if wanted.is_pending:
        return Plan(pending=tuple(kept), without_action=gone)
    unfinished = sum(one.state not in FINISHED for one in found)
    gone = Counter(one.action for one in found if one.action in gone and one.state in FINISHED)
    return Plan(
        finished=tuple(one for one in kept if one.state in FINISHED),
        unfinished=unfinished,
        without_action=gone,
    )


def _require_known(action: str, names: set[str]) -> None:
    if action in names:
        return
    close = difflib.get_close_matches(action, names, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(sorted(names))}."
    raise PremblydError(
        f"Neither the configuration nor the database has an action {action}; {hint}"
    )


def _plan_new(operator: Operator, settings: Config, wanted: Wanted, action: Action) -> Plan:
    matching = Matching(settings.actions)
    not_for: Counter[str] = Counter()
    new_for = []
    for event in operator.events_without(
        action.name, event_id=wanted.event_id, since_ms=wanted.since_ms
    ):
        why_not = matching.refuse_code(action, event.response_code)
        if why_not is None and action.when is not None:  # only now is the body read
            why_not = matching.why_not(action, operator.event(event.id))
        if why_not is None:
            new_for.append(event.id)
        else:
            not_for[why_not] += 1
    return Plan(new_for=tuple(new_for), action=action, not_for=not_for)


def carry_out(plan: Plan, operator: Operator, settings: Config, now_ms: int) -> Iterator[int]:
    """Do what is planned. Yield after every transaction how many deliveries were queued."""
    attempts = {action.name: action.retry.attempts for action in settings.actions}
    finished = {one.id: attempts[one.action] for one in plan.finished}
    yield from operator.replay(list(finished), finished, now_ms)
    yield from operator.hasten([one.id for one in plan.pending], now_ms)
    if plan.action is not None:
        action = plan.action
        yield from operator.add(plan.new_for, action.name, action.retry.attempts, now_ms)
