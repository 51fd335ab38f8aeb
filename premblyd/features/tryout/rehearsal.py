"""A rehearsal: plays past events against another configuration, one after the other, as if it had
been used from the first on. Begin with `rehearse`.

Nothing is run, asked or written. A hook is taken to end as the record says it did; one that the
record does not have, to succeed.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from premblyd.config.models import Action, Config
from premblyd.features.asking import agreement
from premblyd.features.asking.settling import requirement_of
from premblyd.features.asking.stored import found_others
from premblyd.features.tryout import deciding
from premblyd.features.tryout.deciding import (
    AGAINST_IT,
    Configured,
    Decision,
    Does,
    PastEvent,
    Recorded,
    Span,
)
from premblyd.features.turns import once
from premblyd.features.turns.once import Subject
from premblyd.features.turns.settings import ONCE
from premblyd.prembly import events
from premblyd.prembly.payload import StoredEvent, Verdict, plain_id
from premblyd.queue.digests import Digests
from premblyd.queue.names import groups, known_as
from premblyd.store.engine import Database, Transaction
from premblyd.store.states import State

RAN_BEFORE = "`once`: it has run for an earlier event of this reference and outcome"
RAN_LATER = (
    "`once`: it has run for a later event of this reference and outcome, before it was tried again"
)
PERHAPS_BEFORE = "`once`: it may have run for an earlier event of this reference and outcome"
NOT = Decision(does=Does.NOT)


class Difference(StrEnum):
    """How what another configuration does differs from what the record has."""

    NONE = "same"
    MORE = "more"  # it runs, and has not
    FEWER = "fewer"  # it does not run, and has
    OTHERWISE = "otherwise"  # it runs as it has, another hook or in another way
    UNSAID = "unsaid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The result for an event and an action. `state`: of the delivery in the record; None: it has
    none. `so_now`: the present configuration would do the same."""

    action: str
    state: str | None
    does: Does
    difference: Difference
    why: str = ""
    so_now: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """The result for an event, with each action that the record or the new configuration has for
    it. Type, code and outcome are those of its row."""

    event_id: int
    type: str | None
    response_code: str | None
    outcome: str | None
    actions: Sequence[Compared]

    @property
    def differs(self) -> bool:
        """Whether anything differs, or can't be said."""
        return any(each.difference is not Difference.NONE for each in self.actions)


def rehearse(
    database: Database, new: Config, present: Config | None, span: Span
) -> Iterator[Rehearsed]:
    """Yield what becomes of each event of a span. `present`: the configuration that is in force, if
    that can be read."""
    before = Configured(present) if present else None
    stage = _Stage(database, Configured(new, before), before, span)
    for portion in deciding.portions(database, span):
        yield from stage.play(portion)


def notes(new: Config, present: Config | None) -> Iterator[str]:
    """Yield what a rehearsal does not tell of these configurations."""
    if present is None:
        yield (
            "there is no present configuration to compare with, so more can't be said, and changed"
            " hooks are not listed"
        )
        return
    if new.duplicates != present.duplicates:
        yield "`duplicates` differs: the events are those stored by the present rule"
    if new.database != present.database:
        yield "`database` differs: the events are those of the present configuration's database"


class _Act(NamedTuple):
    """An event, and what the new configuration does with it before `once` is asked."""

    found: PastEvent
    decided: dict[str, Decision]


class _Holder(NamedTuple):
    """The event whose hook runs for a key of `once`. Not `is_sure`: perhaps."""

    event_id: int
    is_sure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """What the record says beside the events: what others of the same verification say, by event;
    the keys of `once`, by event and action; for which action and key one had succeeded before; the
    events of deliveries that ran in the place of others."""

    others: Mapping[int, Sequence[Verdict]]
    keys: Mapping[tuple[int, str], tuple[str, ...]]
    ran_before: Collection[tuple[str, str]]
    event_of: Mapping[int, int]


class _Stage:
    """Plays events against a configuration, in their order: what `once` says of one depends on
    those before it."""

    def __init__(
        self, database: Database, new: Configured, before: Configured | None, span: Span
    ) -> None:
        self._database = database
        self._new = new
        self._before = before
        self._first_id = span.first_id
        # By 64 bits of the action and the key: a million take 100 MB, and that two of them are
        # alike is unlikely.
        self._held: dict[int, _Holder] = {}
        self._otherwise = _otherwise(new, before)

    def play(self, portion: Sequence[PastEvent]) -> Iterator[Rehearsed]:
        """Yield what becomes of each of these events."""
        acts = [_Act(found, self._new.decide(found)) for found in portion]
        looked = self._look(acts)
        for act in acts:
            self._withstand(act, looked)
            for name, decision in act.decided.items():
                if self._is_once(name):
                    act.decided[name] = self._once(act.found, name, decision, looked)
            yield self._compared(act)

    def _is_once(self, action: str) -> bool:
        own = self._new.actions.get(action)
        return own is not None and ONCE.of(own) is not None

    def _look(self, acts: Sequence[_Act]) -> _Looked:
        instead = [
            delivery.ran_instead_id
            for act in acts
            for delivery in act.found.deliveries.values()
            if delivery.ran_instead_id is not None and self._is_once(delivery.action)
        ]
        event_of = deciding.events_of(self._database, instead)
        of_answers = [
            act.found.event
            for act in acts
            if act.found.event.verified_by == events.STORED_BY and act.decided
        ]
        of_once = [
            (act.found.id, name, decision.verdict)
            for act in acts
            for name, decision in act.decided.items()
            if self._is_once(name) and decision.verdict is not None and decision.verdict.reference
        ]
        if not of_answers and not of_once:
            return _Looked(others={}, keys={}, ran_before=(), event_of=event_of)

        def look(transaction: Transaction) -> _Looked:
            keys, ran_before = self._look_for_once(transaction, of_once)
            others = {event.id: self._others(transaction, event) for event in of_answers}
            return _Looked(others=others, keys=keys, ran_before=ran_before, event_of=event_of)

        return self._database.look(look)

    def _others(self, transaction: Transaction, event: StoredEvent) -> Sequence[Verdict]:
        known = known_as(transaction, {event.verdict.reference or ""})
        return found_others(transaction, known)

    def _look_for_once(
        self,
        transaction: Transaction,
        of_once: Sequence[tuple[int, str, Verdict]],
    ) -> tuple[dict[tuple[int, str], tuple[str, ...]], set[tuple[str, str]]]:
        references = {verdict.reference or "" for _, _, verdict in of_once}
        known = groups(transaction, references) if references else {}
        digests = Digests.of(transaction)
        keys: dict[tuple[int, str], tuple[str, ...]] = {}
        asked: dict[tuple[str, str], Callable[[], bool]] = {}
        for event_id, name, verdict in of_once:
            reference = verdict.reference or ""
            names = known.get(plain_id(reference), set())
            its_keys = once.keys_of(digests, verdict, names)
            keys[event_id, name] = its_keys
            if (name, its_keys[0]) not in asked and _place(name, its_keys) not in self._held:
                all_names = tuple(dict.fromkeys([reference, *sorted(names)]))
                subject = Subject(all_names, verdict.outcome, verdict.type, its_keys)
                asked[name, its_keys[0]] = once.asking_success(
                    transaction, subject, name, self._first_id
                )
        return keys, {place for place, has_succeeded in asked.items() if has_succeeded()}

    def _withstand(self, act: _Act, looked: _Looked) -> None:
        """Have an answer of Prembly's withstand what other events of its verification say. More
        may have come since: these can only have made it harder."""
        event = act.found.event
        if event.id not in looked.others:
            return
        event = self._new.read(event, act.found) if event.has_body else event
        for name, decision in act.decided.items():
            requirement = requirement_of(self._new.actions[name], event, self._new.routing)
            others = looked.others[event.id]
            if decision.does is Does.RUNS and not agreement.withstands(
                event.verdict, others, requirement
            ):
                act.decided[name] = Decision(does=Does.UNSAID, why=AGAINST_IT)

    def _once(self, found: PastEvent, name: str, decision: Decision, looked: _Looked) -> Decision:
        """Return what `once` makes of a decision."""
        keys = looked.keys.get((found.id, name))
        if keys is None or decision.does is Does.NOT:
            return decision
        place = _place(name, keys)
        holder, recorded = self._held.get(place), found.deliveries.get(name)
        why = ""
        if holder is not None and holder.is_sure:
            why = f"{RAN_BEFORE} ({holder.event_id})"
        elif (name, keys[0]) in looked.ran_before:
            why = RAN_BEFORE
        elif (later_id := self._later(found, recorded, keys, looked)) is not None:
            why = f"{RAN_LATER} ({later_id})"
        if why:
            return Decision(does=Does.SKIPPED, why=why, verdict=decision.verdict)
        is_unsaid = decision.does is Does.UNSAID
        if is_unsaid and self._new.decides_alike(name, found):
            # Then it ends as it has.
            if recorded is not None and recorded.state == State.SUCCEEDED:
                self._held[place] = _Holder(found.id, is_sure=True)
            return decision
        # One that the record has, and that has not succeeded, leaves it to the next.
        if recorded is None or recorded.state in (State.SUCCEEDED, State.SKIPPED):
            is_sure = holder is None and not is_unsaid
            self._held.setdefault(place, _Holder(found.id, is_sure))
        if holder is not None:
            return Decision(does=Does.UNSAID, why=f"{PERHAPS_BEFORE} ({holder.event_id})")
        return decision

    def _later(
        self, found: PastEvent, recorded: Recorded | None, keys: Sequence[str], looked: _Looked
    ) -> int | None:
        """Return the later event for which the hook ran in the record while this one waited to be
        tried again, if it would run for that one now too."""
        if recorded is None or recorded.state != State.SKIPPED:
            return None
        later_id = looked.event_of.get(recorded.ran_instead_id or 0, 0)
        if later_id <= found.id:
            return None
        for later in deciding.past_events(self._database, [later_id]):
            act = _Act(later, self._new.decide(later))
            its_keys = self._look([act]).keys.get((later_id, recorded.action), ())
            does = act.decided.get(recorded.action)
            if does is not None and does.does is Does.RUNS and set(its_keys) & set(keys):
                return later_id
        return None

    def _compared(self, act: _Act) -> Rehearsed:
        """Return how what is done differs from the record, of each action that either has."""
        found = act.found
        names = dict.fromkeys([*act.decided, *found.deliveries])
        return Rehearsed(
            event_id=found.id,
            type=found.type,
            response_code=found.response_code,
            outcome=found.outcome,
            actions=[self._of_action(found, name, act.decided.get(name, NOT)) for name in names],
        )

    def _of_action(self, found: PastEvent, name: str, decision: Decision) -> Compared:
        recorded = found.deliveries.get(name)
        difference = self._difference(found, name, decision, recorded)
        why, so_now = decision.why, False
        if difference in (Difference.MORE, Difference.FEWER):
            why, so_now = self._reason(found, name, decision)
        elif difference is Difference.OTHERWISE:
            why = f"another {', '.join(self._otherwise[name])}"
        return Compared(
            action=name,
            state=recorded.state if recorded else None,
            does=decision.does,
            difference=difference,
            why=why,
            so_now=so_now,
        )

    def _difference(
        self, found: PastEvent, name: str, decision: Decision, recorded: Recorded | None
    ) -> Difference:
        has_run = recorded is not None and recorded.has_run
        if decision.does is Does.UNSAID:
            is_alike = self._new.decides_alike(name, found)
            return Difference.NONE if is_alike else Difference.UNSAID
        if decision.does is Does.RUNS:
            if not has_run:
                return Difference.MORE
            return Difference.OTHERWISE if self._otherwise.get(name) else Difference.NONE
        return Difference.FEWER if has_run else Difference.NONE

    def _reason(self, found: PastEvent, name: str, decision: Decision) -> tuple[str, bool]:
        """Return why something differs, and whether the present configuration does so too."""
        why = decision.why
        if decision.does is Does.NOT and not why:
            why = self._new.why_not(name, found)
        before = self._before
        if before is None or decision.does is Does.SKIPPED:
            return why, False
        why_not_now = before.why_not(name, found)
        if decision.does is Does.NOT:
            return why, bool(why_not_now) and not decision.why
        return (f"today, {why_not_now}" if why_not_now else ""), not why_not_now


def _place(action: str, keys: Sequence[str]) -> int:
    return hash((action, keys[0]))


def _otherwise(new: Configured, before: Configured | None) -> dict[str, list[str]]:
    """Return by action in what its hook, or how that runs, differs from the present one."""
    was = before.actions if before else {}
    return {name: [*_changed(was[name], now)] for name, now in new.actions.items() if name in was}


def _changed(before: Action, now: Action) -> Iterator[str]:
    if type(before.hook) is not type(now.hook):
        yield now.hook.key
    else:
        for name, field in type(now.hook).model_fields.items():
            if getattr(before.hook, name) != getattr(now.hook, name):
                yield field.alias or name
    for name in ("confirm", "order", "retry"):
        if getattr(before, name) != getattr(now, name):
            yield name


MOST_FIGURES = 1000  # who sends webhooks may make up types and codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Of:
    """What is counted together. Of too many figures, only action and difference count."""

    action: str
    difference: Difference
    type: str | None = None
    response_code: str | None = None
    outcome: str | None = None
    why: str = ""


@dataclass(slots=True)
class Figure:
    """How many events there are of a kind, and which; of these `so_now` with the present
    configuration would do the same."""

    of: Of
    so_now: int = 0
    events: "array[int]" = field(default_factory=lambda: array("Q"))

    @property
    def count(self) -> int:
        return len(self.events)

    @property
    def reason(self) -> tuple[Difference, str]:
        """What differs, and why."""
        return self.of.difference, self.of.why

    def as_json(self) -> dict[str, Any]:
        """Return it as `--json` has it."""
        counted = {"count": self.count, "so_now": self.so_now, "event_ids": self.events.tolist()}
        return asdict(self.of) | counted


class Figures:
    """Counts what a rehearsal yields."""

    def __init__(self) -> None:
        self.events = 0
        self.differing = 0  # events
        self.by_action: dict[str, Counter[Difference]] = {}
        self._figures: dict[Of, Figure] = {}

    def add(self, event: Rehearsed) -> None:
        """Count the result for an event."""
        self.events += 1
        self.differing += event.differs
        for each in event.actions:
            self.by_action.setdefault(each.action, Counter())[each.difference] += 1
            if each.difference is not Difference.NONE:
                figure = self._figure(event, each)
                figure.events.append(event.event_id)
                figure.so_now += each.so_now

    def _figure(self, event: Rehearsed, each: Compared) -> Figure:
        of = Of(
            action=each.action,
            difference=each.difference,
            type=event.type,
            response_code=event.response_code,
            outcome=event.outcome,
            why=each.why,
        )
        if of not in self._figures and len(self._figures) >= MOST_FIGURES:
            of = Of(action=each.action, difference=each.difference)
        return self._figures.setdefault(of, Figure(of))

    def figures(self, action: str) -> list[Figure]:
        """Return the figures of an action, by difference and reason, those of most events first."""
        own = [each for each in self._figures.values() if each.of.action == action]
        order = list(Difference)
        totals: Counter[tuple[Difference, str]] = Counter()
        for each in own:
            totals[each.reason] += each.count

        def place(each: Figure) -> tuple[int, int, str, int]:
            most_first = -totals[each.reason]
            return order.index(each.of.difference), most_first, each.of.why, -each.count

        return sorted(own, key=place)

    def as_json(self) -> dict[str, Any]:
        """Return all of it, as `--json` has it."""
        return {
            "events": self.events,
            "differing": self.differing,
            "actions": [
                {"action": name, **{each.value: counts[each] for each in Difference}}
                for name, counts in self.by_action.items()
            ],
            "differences": [
                figure.as_json() for name in self.by_action for figure in self.figures(name)
            ],
        }
