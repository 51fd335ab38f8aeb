"""Deliveries with `order`, in any order of arrivals, ends, crashes, replays and cancels, against a
model of lists. `SCHEDULES=1000` in the environment tries as many schedules."""

import itertools
import os
import random
from dataclasses import dataclass

import pytest

from premblyd.features.turns.settings import Then
from premblyd.record.operating import Operator
from tests.features.turns.schedules import Schedule
from tests.support.queue import claim
from tests.support.store import Store

SCHEDULES = int(os.environ.get("SCHEDULES", "2"))
STEPS = 250  # enough for each step from each state: a dead one that holds others, replayed …
REFERENCES = ["a", "b", None]
THENS: dict[str, Then] = {"go": "continue", "stay": "wait"}


@dataclass
class Delivery:
    """A delivery as the model knows it."""

    line: tuple[str, str] | None
    due_ms: int
    state: str = "pending"


class Lines(Schedule):
    """In a line stand those that are not over, and of `stay` dead ones too."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        super().__init__(store, rng)
        self.lines: dict[tuple[str, str], list[int]] = {}

    def first_of(self, number: int) -> int:
        line = self.model[number].line
        return self.lines[line][0] if line in self.lines else number

    def receive(self) -> None:
        self.now_ms += self.rng.choice([0, 1, 1000])
        for _ in range(self.rng.randint(1, 3)):
            reference, action = self.rng.choice(REFERENCES), self.rng.choice([*THENS])
            number = len(self.model) + 1
            self.store.add(
                action,
                attempts=100,
                then=THENS[action],
                body=b"%d" % number,
                received_at_ms=self.now_ms,
                reference=reference,
            )
            self.join(number, (reference, action) if reference else None)

    def join(self, number: int, line: tuple[str, str] | None) -> None:
        self.model[number] = Delivery(line, self.now_ms)
        if line is not None:
            self.lines.setdefault(line, []).append(number)

    def leave(self, number: int, state: str) -> None:
        own = self.model[number]
        own.state = state
        if own.line is None or (state == "dead" and own.line[1] == "stay"):
            return
        line = self.lines[own.line]
        was_first = line[0] == number
        line.remove(number)
        if was_first and line:
            self.model[line[0]].due_ms = self.now_ms

    def claim(self) -> None:
        self.now_ms += self.rng.choice([0, 1, 500, 5000])
        expected = [
            number
            for number, each in self.model.items()
            if each.state == "pending"
            and self.first_of(number) == number
            and each.due_ms <= self.now_ms
        ]
        claimed = claim(self.store, self.now_ms, 99, list(self.jobs), go=99, stay=99)
        assert sorted(job.delivery_id for job in claimed.jobs) == expected
        for job in claimed.jobs:
            self.jobs[job.delivery_id] = job
            self.model[job.delivery_id].state = "running"

    def replay(self) -> None:
        for number in self.over():
            own = self.model[number]
            [(action,)] = self.store.rows("SELECT action FROM delivery WHERE id = ?", number)
            changes = Operator(actor="ada").replay(
                {number: 100}, self.now_ms, {number: THENS[action]}
            )
            assert [self.store.call(change) for change in changes] == [1]
            if own.line is not None and number in self.lines[own.line]:
                own.state, own.due_ms = "pending", self.now_ms  # it has kept its place
            else:
                self.join(number, own.line)

    def can_be_cancelled(self, number: int) -> bool:
        holds = any(number in line for line in self.lines.values())
        return super().can_be_cancelled(number) or (self.model[number].state == "dead" and holds)

    def compare(self) -> None:
        before = {
            number: earlier
            for line in self.lines.values()
            for earlier, number in itertools.pairwise(line)
        }
        standing = self.store.rows("SELECT delivery_id FROM ordered")
        assert {row[0] for row in standing} == {
            each for line in self.lines.values() for each in line
        }
        rows = self.store.rows(
            "SELECT delivery.id, state, due_at_ms, waits_for_id FROM delivery"
            " LEFT JOIN ordered ON ordered.delivery_id = delivery.id"
        )
        for number, state, due_ms, waits_for in rows:
            own = self.model[number]
            assert state == own.state, number
            if state == "pending":
                assert waits_for == before.get(number), number
                assert due_ms == (None if number in before else own.due_ms), number


@pytest.mark.parametrize("seed", range(3, 3 + SCHEDULES))
def test_any_schedule_goes_as_the_model_says(store: Store, seed: int) -> None:
    lines = Lines(store, random.Random(seed))
    lines.run(STEPS, receive=3, claim=6, end=6, crash=1, replay=2, cancel=2)
