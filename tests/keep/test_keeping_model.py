"""What may be left of each event, whatever came, ran, was held, erased, replayed and
cancelled before and after it expired: against a model of a dozen lines.
`SCHEDULES=1000` in the environment tries as many schedules."""

import os
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import pytest

from premblyd.config.retention import HOUR_MS, Retention
from premblyd.engines.connections import connect_operator
from premblyd.engines.engine import Transaction
from premblyd.errors import NotFoundError
from premblyd.keep import erasing, holds
from premblyd.keep.erasing import HeldError, Request
from premblyd.keep.holds import Subject
from premblyd.keep.persons import Named
from premblyd.keep.retention import Done, Remover, walks
from premblyd.prembly.payload import plain_id
from premblyd.queue.inbox import Added
from premblyd.queue.jobs import Job
from premblyd.record.operating import Operator
from tests.faults import kept
from tests.support.queue import FAILED, SUCCEEDED, claim, finish
from tests.support.store import NOW_MS, Store

SCHEDULES = int(os.environ.get("SCHEDULES", "2"))
STEPS = 60
T = TypeVar("T")
PERIODS = {"body": "5h", "identity": "11h", "record": "23h"}
USERS = ("user-0", "user-1", "user-2", None)
PLAIN = "5e0a7d0f-4b1e-4f3c-9f5f-1d2b8e6a7c90"
SPELLINGS = (PLAIN, PLAIN.upper(), PLAIN.replace("-", ""), PLAIN.replace("-", "_"))
STEP_WEIGHTS = {
    "receive": 6,
    "repeat": 2,
    "claim": 5,
    "end": 5,
    "replay": 1,
    "cancel": 1,
    "hold": 1,
    "let_go": 1,
    "erase": 1,
    "sweep": 5,
}


@dataclass
class Known:
    """An event as the model knows it. `name`: its reference in its one spelling."""

    body: bytes
    spelt: str | None
    name: str | None
    user_ref: str | None
    received_ms: int
    removed_parts: str | None = None

    def lose(self, removed_parts: str) -> None:
        """Lose a class, and what goes with it."""
        self.removed_parts = removed_parts
        if removed_parts in ("identity", "erased"):
            self.name = self.user_ref = None


@dataclass
class Schedule:
    """A store, its model, and steps that do the same to both."""

    store: Store
    rng: random.Random
    retention: Retention
    now_ms: int = NOW_MS
    model: dict[int, Known] = field(default_factory=dict)
    gone: dict[int, Known] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    held: set[Subject] = field(default_factory=set)
    erased: set[str | None] = field(default_factory=set)  # names
    owners: dict[str, str | None] = field(default_factory=dict)  # of each name
    names: list[str | None] = field(default_factory=lambda: [None, PLAIN, "ref-0", "ref-1"])

    def run(self) -> None:
        for name in self.rng.choices([*STEP_WEIGHTS], [*STEP_WEIGHTS.values()], k=STEPS):
            getattr(self, name)()
            self.compare()
        self.now_ms += 48 * HOUR_MS
        self.sweep()
        self.compare()
        assert kept.broken(self.store.place) == []

    def call(self, work: Callable[[Transaction], T]) -> T:
        return self.store.call(work)

    # --- What comes and runs --------------------------------------------------------------

    def receive(self) -> None:
        """Store a webhook: of a verification that is known or new, of a person or of nobody."""
        self.now_ms += self.rng.choice([0, 1, 1000])
        self.names.append(f"ref-{len(self.names)}")
        name = self.rng.choice(self.names)
        user_ref = self.rng.choice(USERS)
        if name is not None:
            user_ref = self.rng.choice([self.owners.setdefault(name, user_ref), None])
        spelt = self.rng.choice(SPELLINGS) if name == PLAIN else name
        own = Known(b'{"n": %d}' % self.rng.getrandbits(60), spelt, name, user_ref, self.now_ms)
        added = self.add(own, *self.rng.choice([("crm",), ("crm", "line"), ()]))
        assert added.is_new
        self.model[added.event_id] = own
        if name is not None and name in self.erased:
            own.lose("erased")

    def add(self, own: Known, *actions: str) -> Added:
        return self.store.add(
            *actions,
            attempts=2,
            body=own.body,
            received_at_ms=self.now_ms,
            reference=own.spelt,
            user_ref=own.user_ref,
            session_id=None,
        )

    def repeat(self) -> None:
        """Send again what came before, also what is gone."""
        known = self.model | self.gone
        if known:
            number = self.rng.choice(sorted(known))
            added = self.add(known[number], "crm")
            assert (added.event_id, added.is_new) == (number, False)

    def claim(self) -> None:
        self.now_ms += self.rng.choice([0, 1, 5000])
        claimed = claim(self.store, self.now_ms, 99, list(self.jobs), crm=99, line=99)
        self.jobs |= {job.delivery_id: job for job in claimed.jobs}

    def end(self) -> None:
        for number in self.rng.sample(sorted(self.jobs), min(4, len(self.jobs))):
            result, again_ms = self.rng.choice(
                [(SUCCEEDED, None), (FAILED, None), (FAILED, self.now_ms + 1000)]
            )
            if not self.jobs[number].attempts_left:
                again_ms = None
            assert finish(self.store, self.jobs.pop(number), result, again_ms, self.now_ms)

    def replay(self) -> None:
        over = """SELECT delivery.id FROM delivery JOIN event ON event.id = event_id
            WHERE state IN ('succeeded', 'dead', 'cancelled') AND removed_parts IS NULL
            ORDER BY delivery.id"""
        found = [number for (number,) in self.store.rows(over)]
        chosen = self.rng.sample(found, min(2, len(found)))
        for change in Operator(actor="ada").replay(dict.fromkeys(chosen, 2), self.now_ms, {}):
            self.call(change)

    def cancel(self) -> None:
        can = "SELECT id FROM delivery WHERE state = 'pending' ORDER BY id"
        found = [number for (number,) in self.store.rows(can)]
        if found:
            self.call(Operator(actor="ada").cancel(self.rng.choice(found), self.now_ms))

    # --- What is held and erased -----------------------------------------------------------

    def hold(self) -> None:
        subject = self.subject()
        self.held.add(subject)
        self.call(holds.place(subject, actor="ada", now_ms=self.now_ms))

    def let_go(self) -> None:
        if self.held:
            subject = self.rng.choice(sorted(self.held, key=str))
            self.held.discard(subject)
            assert self.call(holds.end(subject, actor="ada", now_ms=self.now_ms))

    def subject(self) -> Subject:
        name = self.rng.choice(self.names)
        if name is None or self.rng.random() < 0.5:
            return Subject(user_ref=self.rng.choice(USERS[:-1]))
        return Subject(reference=self.rng.choice(SPELLINGS) if name == PLAIN else name)

    def erase(self) -> None:
        """Erase a person or a verification; while a hold is on any of it, nothing."""
        chosen = self.subject()
        events = self.person(chosen)
        users = {self.model[number].user_ref for number in events} | {chosen.user_ref}
        names = {self.model[number].name for number in events} | {chosen.reference}
        names = {name and plain_id(name) for name in names}
        is_on_hold = any(
            each.user_ref in users if each.user_ref else plain_id(str(each.reference)) in names
            for each in self.held
        )
        by_user, by_reference = chosen.user_ref, chosen.reference
        named = Named.user(by_user) if by_user else Named.reference(str(by_reference))
        with closing(connect_operator(self.store.place)) as database:
            try:
                erasing.erase(database, Request(named=named, actor="ada"))
            except HeldError:
                assert is_on_hold
                return
            except NotFoundError:
                assert not events
                return
        assert not is_on_hold
        for number in events:
            self.erased.add(self.model[number].name)
            self.model[number].lose("erased")

    def person(self, chosen: Subject) -> list[int]:
        """Return the events of a person, or of a verification."""
        if chosen.reference is not None:
            name = plain_id(chosen.reference)
            return [number for number, own in self.model.items() if own.name == name]
        own = {n for n, each in self.model.items() if each.user_ref == chosen.user_ref}
        names = {self.model[number].name for number in own} - {None}
        return [n for n, each in self.model.items() if n in own or self.is_nobodys(each, names)]

    def is_nobodys(self, own: Known, names: set[str | None]) -> bool:
        return own.user_ref is None and own.name in names

    def is_on_hold(self, number: int) -> bool:
        own = self.model[number]
        users = {own.user_ref}
        if own.user_ref is None and own.name is not None:
            users = {each.user_ref for each in self.model.values() if each.name == own.name}
        return any(
            subject.user_ref in users
            if subject.user_ref is not None
            else plain_id(str(subject.reference)) == own.name
            for subject in self.held
        )

    # --- Time -----------------------------------------------------------------------------

    def sweep(self) -> None:
        """Let time go by, and remove what is over."""
        self.now_ms += self.rng.choice([0, 1, 4, 9]) * HOUR_MS
        left = """SELECT DISTINCT event_id FROM delivery
            WHERE state IN ('pending', 'running') OR (state = 'dead' AND blocks_order)"""
        busy = {number for (number,) in self.store.rows(left)}
        free = [n for n in self.model if n not in busy and not self.is_on_hold(n)]
        for number in free:
            self.let_time_go_by(number)
        remover = Remover(retention=self.retention, now_ms=self.now_ms)
        for walk in walks(self.retention):
            done = Done(is_more=True)
            after = None
            while done.is_more:
                done = self.call(partial(remover.remove, walk=walk, after=after))
                after = done.to

    def let_time_go_by(self, number: int) -> None:
        own = self.model[number]
        if self.is_over(own, self.retention.record_ms):
            self.gone[number] = self.model.pop(number)
        elif own.removed_parts == "erased":
            return
        elif self.is_over(own, self.retention.identity_ms):
            own.lose("identity")
        elif own.removed_parts is None and self.is_over(own, self.retention.body_ms):
            own.lose("body")

    def is_over(self, own: Known, period_ms: int | None) -> bool:
        return period_ms is not None and own.received_ms + period_ms <= self.now_ms

    def compare(self) -> None:
        found = self.store.rows("SELECT id, removed_parts, user_ref, body FROM event")
        assert {id_: (removed_parts, user_ref) for id_, removed_parts, user_ref, _ in found} == {
            number: (own.removed_parts, own.user_ref) for number, own in self.model.items()
        }
        for number, removed_parts, _, body in found:
            assert body == (None if removed_parts else self.model[number].body)


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_of_each_event_is_left_what_the_model_says(store: Store, seed: int) -> None:
    Schedule(store, random.Random(seed), Retention.model_validate(PERIODS)).run()
