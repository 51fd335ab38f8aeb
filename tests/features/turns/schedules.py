"""Steps in any order that do the same to a store and to a model of its deliveries."""

import random
from typing import Any

from premblyd.queue.jobs import Job
from premblyd.record.operating import Operator
from tests.support.queue import FAILED, INTERRUPTED, SUCCEEDED, crash, finish
from tests.support.store import NOW_MS, Store

OVER = ("succeeded", "dead", "cancelled", "skipped")


class Schedule:
    """A store, its model, and steps that do the same to both: the methods of these names."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        self.store, self.rng = store, rng
        self.now_ms = NOW_MS
        self.model: dict[int, Any] = {}
        self.jobs: dict[int, Job] = {}

    def run(self, count: int, **weights: int) -> None:
        """Take so many steps, of these names as often."""
        for name in self.rng.choices([*weights], [*weights.values()], k=count):
            getattr(self, name)()
            self.compare()

    def compare(self) -> None:
        raise NotImplementedError

    def leave(self, number: int, state: str) -> None:
        """Have a delivery of the model be over."""
        self.model[number].state = state

    def over(self) -> list[int]:
        """Return two that are over."""
        found = [number for number, each in self.model.items() if each.state in OVER]
        return self.rng.sample(found, min(2, len(found)))

    def end(self) -> None:
        if not self.jobs:
            return
        number = self.rng.choice(sorted(self.jobs))
        how = self.rng.choice(["succeeded", "succeeded", "retry", "dead", "interrupted"])
        retry_at_ms = None if how in OVER else self.now_ms + 1000
        result = {"succeeded": SUCCEEDED, "interrupted": INTERRUPTED}.get(how, FAILED)
        assert finish(self.store, self.jobs.pop(number), result, retry_at_ms, self.now_ms)
        if how in OVER:
            self.leave(number, how)
        else:
            self.model[number].state, self.model[number].due_ms = "pending", retry_at_ms

    def crash(self) -> None:
        crash(self.store, self.model, self.jobs, self.now_ms)

    def can_be_cancelled(self, number: int) -> bool:
        return bool(self.model[number].state == "pending")

    def cancel(self) -> None:
        if can := list(filter(self.can_be_cancelled, self.model)):
            number = self.rng.choice(can)
            assert self.store.call(Operator(actor="ada").cancel(number, self.now_ms))
            self.leave(number, "cancelled")
