"""Worker hooks for the tests: small programs, and a runner that has them at work."""

import asyncio
import dataclasses
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from premblyd.config.models import Action
from premblyd.features.worker.conversation import Conversation
from premblyd.features.worker.worker import WorkerRunner
from premblyd.queue.jobs import Result
from premblyd.run.kinds import Invocation
from premblyd.run.process import Children
from premblyd.run.starting import FREE, Permit
from tests.support.jobs import action, invocation, settings
from tests.support.waiting import until

READY = "ready 1"


def shell(for_each_line: str, *, ready: str = READY, first: str = "") -> list[str]:
    """Return a worker in sh, which starts in a few milliseconds: for each line it does this, with
    its number in $n, its delivery in $delivery and its own number in $pid."""
    return [
        "sh",
        "-c",
        f"""
        pid=$$
        read -r hello <&3
        {first}
        echo "{ready}" >&4
        while read -r line <&3; do
            n=${{line#*:}}; n=${{n%%,*}}
            delivery=${{line#*'"delivery":'}}; delivery=${{delivery%%,*}}
            {for_each_line}
        done
        """,
    ]


def python(for_each_line: str) -> list[str]:
    """Return a worker in Python: for each line, in `line`, it does this, and `say` answers."""
    code = f"""
import json, os, signal, sys, time
lines = open(3)
answers = open(4, "w")
def say(*words):
    print(*words, file=answers, flush=True)
hello = json.loads(lines.readline())
say("{READY}")
for line in map(json.loads, lines):
    n = line["number"]
    {for_each_line}
"""
    return [sys.executable, "-c", code]


# Until the test makes the file $GO.
WAIT = 'while [ ! -e "$GO" ]; do sleep 0.01; done'
ANSWERS_OK = shell('echo "ok $n $pid" >&4')


class Working:
    """A runner of worker hooks at work: `async with Working(worker=[…]) as at`. Left, it has ended
    every process, and given back every descriptor."""

    def __init__(self, *actions: Action, **keys: Any) -> None:
        """Of these actions, or of one that has `keys`, with one process."""
        self.actions = actions or (action("act", **{"concurrency": 1, **keys}),)
        self.children = Children()

    async def __aenter__(self) -> Self:
        self._descriptors = _descriptors()
        self._ahead_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._loop.time = lambda: time.monotonic() + self._ahead_s  # type: ignore[method-assign]
        self.runner = WorkerRunner(self.children)
        self.configure(*self.actions)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)  # who was told of an end by now goes first
        self.runner.interrupt()
        self.runner.close()
        del self._loop.time
        assert _descriptors() == self._descriptors
        assert not any(self.children._counts.values())

    def later(self, seconds: float) -> None:
        """Have the loop's clock go so much forward at once."""
        self._ahead_s += seconds

    @property
    def conversations(self) -> list[Conversation]:
        """Those with the processes that there are now."""
        return [each for pool in self.runner._pools() for each in pool.conversations]

    def configure(self, *actions: Action) -> None:
        """Reload."""
        self.actions = actions
        self.runner.configure(settings(actions=actions))

    async def run(
        self, delivery: int = 23, body: bytes = b"{}", *, permit: Permit = FREE, name: str = "act"
    ) -> Result:
        """Run the hook of an action for a delivery."""
        hook = next(each for each in self.actions if each.name == name).hook
        assert hook.key == "worker"
        return await self.runner.run(hook, of_delivery(delivery, body, permit, name))  # type: ignore[arg-type]

    def begin(self, *deliveries: int, **keys: Any) -> list["asyncio.Task[Result]"]:
        """Run the hook for these deliveries, in this order."""
        return [asyncio.create_task(self.run(delivery, **keys)) for delivery in deliveries]

    async def run_all(self, deliveries: Sequence[int], **keys: Any) -> list[Result]:
        return await asyncio.gather(*self.begin(*deliveries, **keys))

    async def until_busy(self, processes: int) -> None:
        """Wait until there are so many processes, and each has a line."""
        await until(
            lambda: [each.line is not None for each in self.conversations] == [True] * processes
        )

    async def until_gone(self) -> None:
        """Wait until no process is left."""
        await until(lambda: not self.conversations)


def of_delivery(
    delivery: int, body: bytes = b"{}", permit: Permit = FREE, name: str = "act"
) -> Invocation:
    about = invocation(body, permit=permit)
    environment = {**about.environment, "PREMBLY_DELIVERY": delivery}
    return dataclasses.replace(about, action=name, environment=environment)


def outcomes(results: Sequence[Result]) -> Counter[str]:
    return Counter(str(result.outcome) for result in results)


def end(result: Result) -> tuple[str, str | None, str | None]:
    return str(result.outcome), result.error, result.output


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def runs(pid: int) -> bool:
    """Return whether a process runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
