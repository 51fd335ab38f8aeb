"""Claims of an action with `once` by two hosts, by turns and at once, in any order with ends,
crashes, replays and cancels, against a model of a dozen lines. `SCHEDULES=1000` in the environment
tries as many schedules."""

import os
import random
from copy import deepcopy
from dataclasses import dataclass

import pytest

from premblyd.prembly.payload import Outcome
from premblyd.queue.jobs import Claimable, Claimed, Room
from premblyd.record.operating import Operator
from tests.features.turns.schedules import Schedule
from tests.support.queue import LEASE_MS, claim_once
from tests.support.store import Store

SCHEDULES = int(os.environ.get("SCHEDULES", "4"))
STEPS = 80
KEYS = [("a", Outcome.VERIFIED), ("a", Outcome.PENDING), ("b", Outcome.VERIFIED)]
ACTION = Claimable(slots=9, lease_ms=LEASE_MS, digest="", takes_turns=True)
HELD_MS = -1  # how long exactly one is held is not the model's


@dataclass
class Delivery:
    """A delivery as the model knows it."""

    key: tuple[str, Outcome]
    due_ms: int
    state: str = "pending"
    ran_instead: int | None = None


class Keys(Schedule):
    """Of a store that two hosts have."""

    def __init__(self, hosts: list[Store], rng: random.Random) -> None:
        super().__init__(hosts[0], rng)
        self.hosts = hosts

    def receive(self) -> None:
        self.now_ms += self.rng.choice([0, 1, 1000])
        reference, outcome = key = self.rng.choice(KEYS)
        for _ in range(self.rng.randint(1, 4)):
            number = len(self.model) + 1
            self.store.add(
                "crm",
                attempts=100,
                body=b"%d" % number,
                received_at_ms=self.now_ms,
                reference=reference,
                outcome=outcome,
            )
            self.model[number] = Delivery(key, self.now_ms)

    def claim(self) -> None:
        self.now_ms += self.rng.choice([0, 1, 499, 500, 5000, 59_000])
        expected = self.decide()
        host = self.rng.choice(self.hosts)
        claimed = claim_once(host, self.now_ms, slots=9, running=list(self.jobs))
        assert sorted(job.delivery_id for job in claimed.jobs) == expected
        self.jobs |= {job.delivery_id: job for job in claimed.jobs}

    def claim_at_once(self) -> None:
        """Both hosts claim at the same moment. Which one gets what, and what one leaves to the
        other for the next claim, is not the model's; that exactly one of a key starts is."""
        self.now_ms += self.rng.choice([500, 5000, 59_000])
        before = deepcopy(self.model)
        expected = self.decide()
        keys = sorted(self.model[number].key for number in expected)
        room = Room(limit=9, running=list(self.jobs))
        both = [host.queue.claim({"crm": ACTION}, room, self.now_ms) for host in self.hosts]
        got = {
            job.delivery_id: job
            for claimed in self.store.wait_all(both)
            if isinstance(claimed, Claimed)
            for job in claimed.jobs
        }
        assert sorted(self.model[number].key for number in got) == keys
        self.jobs |= got
        for number, state, due_ms in self.store.rows("SELECT id, state, due_at_ms FROM delivery"):
            if number in got:
                self.model[number].state = "running"
            elif state == "pending" and due_ms == before[number].due_ms:
                self.model[number] = before[number]  # left to the next claim
            elif number in expected:  # another of its key has started
                self.model[number].state, self.model[number].due_ms = "pending", HELD_MS

    def decide(self) -> list[int]:
        """Do in the model what a claim does; return what it gets."""
        chosen = []
        for key in KEYS:
            own = {number: each for number, each in self.model.items() if each.key == key}
            due = sorted(
                (each.due_ms, number)
                for number, each in own.items()
                if each.state == "pending" and each.due_ms <= self.now_ms
            )
            waiting = [number for _, number in due]
            succeeded = [number for number, each in own.items() if each.state == "succeeded"]
            runs = any(each.state == "running" for each in own.values())
            if waiting and not succeeded and not runs:
                first = waiting.pop(0)
                own[first].state = "running"
                chosen.append(first)
            for number in waiting:
                if succeeded:
                    own[number].state, own[number].ran_instead = "skipped", succeeded[0]
                else:
                    own[number].due_ms = HELD_MS
        return sorted(chosen)

    def compare(self) -> None:
        rows = self.store.rows("SELECT id, state, due_at_ms, ran_instead_id FROM delivery")
        for number, state, due_ms, ran_instead in rows:
            expected = self.model[number]
            assert (state, ran_instead) == (expected.state, expected.ran_instead), number
            if state == "pending" and expected.due_ms == HELD_MS:
                assert self.now_ms + 500 <= due_ms <= self.now_ms + 60_000
                expected.due_ms = due_ms
            assert state != "pending" or due_ms == expected.due_ms
        keys = [each.key for each in self.model.values() if each.state == "succeeded"]
        assert len(keys) == len(set(keys)), "two succeeded"

    def replay(self) -> None:
        for number in self.over():
            for change in Operator(actor="ada").replay({number: 100}, self.now_ms):
                assert self.store.call(change) == 1
            self.model[number] = Delivery(self.model[number].key, self.now_ms)


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_any_schedule_goes_as_the_model_says(store: Store, seed: int) -> None:
    other = store.beside("b")
    steps = {"receive": 4, "claim": 6, "claim_at_once": 3, "end": 6}
    Keys([store, other], random.Random(seed)).run(STEPS, **steps, crash=1, replay=2, cancel=1)
    other.close()
