"""The wall clock is set while deliveries wait.

    python -m tests.faults.clock

An hour back or a day forward: nothing is lost, nothing waits longer than its delay, and nothing
runs early by the thousand. In this process by a clock that can be set, and in a real daemon by
libfaketime. 400 days forward, and the daemon restarted: nothing is removed whose period is not
over.
"""

import asyncio
import itertools
import json
import random
import time
from collections import defaultdict
from pathlib import Path

from premblyd.config.hooks import Hook, ShellHook
from premblyd.config.load import parse_config
from premblyd.config.models import Action
from premblyd.config.secrets import SecretPlaces
from premblyd.engines.sqlite import opening
from premblyd.engines.sqlite.engine import SqliteEngine
from premblyd.engines.writer import Writer
from premblyd.logs import output
from premblyd.model.states import AttemptOutcome
from premblyd.queue.inbox import Inbox, NewDelivery
from premblyd.queue.jobs import Job, Result
from premblyd.queue.queue import Queue
from premblyd.run.dispatcher import Actions, Dispatcher
from premblyd.run.invocation import Invocation
from premblyd.run.kinds import Runners
from tests.faults import campaigns
from tests.faults.daemon import UNFINISHED, Victim, folder
from tests.support.clock import SettableClock
from tests.support.configuration import configuration, shell
from tests.support.database import changing, rows
from tests.support.dispatching import FakeRunner
from tests.support.needs import UnavailableError
from tests.support.store import new_event
from tests.support.waiting import until, wait_until

HOUR_BACK_MS, DAY_FORWARD_MS, YEAR_FORWARD_MS = -3_600_000, 86_400_000, 400 * 86_400_000
DELAY_S = 1.0
WAITING = 20
LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
ENDED = "SELECT count(*) FROM attempt WHERE outcome IS NOT NULL"


class Hooks(FakeRunner):
    """A runner that notes when each delivery ran; its first run takes a moment and fails."""

    def __init__(self) -> None:
        super().__init__()
        self.times: defaultdict[object, list[float]] = defaultdict(list)
        self.first_takes_s = 0.0

    async def run(self, hook: Hook, invocation: Invocation) -> Result:
        runs = self.times[invocation.environment["PREMBLY_DELIVERY"]]
        runs.append(time.monotonic())
        if len(runs) > 1:
            return Result(outcome=AttemptOutcome.SUCCEEDED)
        await asyncio.sleep(self.first_takes_s)
        runs[-1] = time.monotonic()  # a delay begins when the run has ended
        return Result(outcome=AttemptOutcome.FAILED, error="on purpose")


class NoGate:
    """Nothing here has `confirm`."""

    room = 0

    async def judge(self, job: Job, action: Action) -> Job | Result:
        raise AssertionError("no action here has `confirm`")

    def interrupt(self) -> None: ...


async def jump(at: Path, by_ms: int) -> list[str]:
    """Set the clock while deliveries wait, while one runs, and just before new ones come."""
    path = at / "premblyd.db"
    opening.prepare(path)
    clock, hooks = SettableClock(), Hooks()
    writer = Writer(SqliteEngine(path))
    inbox, queue = Inbox(writer), Queue(writer, "host:1:boot")
    dispatcher = Dispatcher(queue, Runners({ShellHook: hooks}), clock, random.Random(1), NoGate())
    retry = {"attempts": 5, "first_delay": f"{DELAY_S:g}s", "factor": 1}
    given = configuration(actions=[shell("wait", "true", retry=retry, concurrency=200)])
    config = parse_config(json.dumps(given), at / "premblyd.yaml", SecretPlaces(at, {}))
    dispatcher.configure(Actions(config.actions), 200, 1 << 30)
    running = asyncio.create_task(dispatcher.run())
    bodies = itertools.count()

    async def receive(number: int) -> None:
        for _ in range(number):
            event = new_event(b"%d" % next(bodies), received_at_ms=clock.now_ms())
            await inbox.add(event, [NewDelivery("wait", 5)])
        dispatcher.wake()

    await receive(WAITING)
    # All have failed once, and wait; on a busy machine some have run again.
    await until(lambda: rows(path, ENDED)[0][0] >= WAITING)
    hooks.first_takes_s = 0.5
    await receive(WAITING)
    # These run while the clock is set, and fail right after.
    await until(lambda: len(hooks.times) == 2 * WAITING)
    clock.set_by_ms += by_ms
    hooks.first_takes_s = 0.0
    await receive(WAITING)  # before the dispatcher has looked at the clock
    await until(lambda: not rows(path, UNFINISHED)[0][0])
    await asyncio.sleep(0.3)  # would a storm go on?
    await dispatcher.stop(1)
    await running
    await writer.close()
    return _judge(hooks)


def _judge(hooks: Hooks) -> list[str]:
    problems = []
    if len(hooks.times) != 3 * WAITING:
        problems.append(f"{3 * WAITING - len(hooks.times)} deliveries never ran")
    waits = [times[1] - times[0] for times in hooks.times.values() if len(times) > 1]
    if any(len(times) > 2 for times in hooks.times.values()):
        problems.append("a storm: some ran more than twice")
    if waits and min(waits) < DELAY_S / 2 - 0.1:
        problems.append(f"the delay of {DELAY_S} s became {min(waits):.2f} s")
    return problems


def _settable(at: Path) -> tuple[Path, dict[str, str]]:
    """Return the file that says how far a daemon's clock is set, and the environment for that."""
    if not LIBRARY.exists():
        raise UnavailableError("libfaketime is not installed")
    setting = at / "clock"
    setting.write_text("+0")
    return setting, {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(setting),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # nor CLOCK_BOOTTIME
        "DONT_FAKE_MONOTONIC": "1",  # its older name
        "FAKETIME_NO_CACHE": "1",
    }


def _set(setting: Path, by_ms: int) -> None:
    new = setting.with_name("new")
    new.write_text(f"{by_ms // 1000:+d}")
    new.rename(setting)  # it ends the process when it reads half a time


def remove_by_a_wrong_clock(at: Path) -> list[str]:
    """Set the clock of a real daemon that has `retention`, and restart it each time."""
    setting, environment = _settable(at)
    with Victim(at, retention={"body": "30d"}) as victim:
        victim.start("", (), (), True, **environment)
        assert victim.send(b"kept").status == 200
        for round_ in range(3):
            assert victim.send(b"%d" % round_).status == 200  # by which a round is seen
            victim.kill()
            with changing(victim.place) as connection:
                sql = "UPDATE event SET received_at_ms = 1 WHERE body = ?"
                connection.execute(sql, [b"%d" % round_])
            _set(setting, YEAR_FORWARD_MS)
            victim.start("", (), (), True, **environment)
            of_round = f"SELECT removed_parts FROM event WHERE id = {round_ + 2}"
            victim.wait_for_rows([("body",)], of_round)
        whole = victim.rows("SELECT count(*) FROM event WHERE body = ?", b"kept")
        problems = victim.complaints()
    return problems if whole == [(1,)] else [*problems, "a clock that was set has removed an event"]


def jump_a_daemon(at: Path, by_ms: int) -> list[str]:
    """Set the clock of a real daemon by libfaketime."""
    setting, environment = _settable(at)
    runs = at / "runs"
    retry = {"attempts": 3, "first_delay": "2s", "factor": 1}
    script = f'echo "$PREMBLY_DELIVERY" >> {runs}; test "$PREMBLY_ATTEMPT" = 2'
    with Victim(at, actions=[shell("wait", script, retry=retry)]) as victim:
        victim.start("", (), (), True, **environment)
        for number in range(WAITING):
            assert victim.send(b"%d" % number).status == 200
        wait_until(lambda: victim.rows("SELECT count(*) FROM attempt")[0][0] >= WAITING)
        _set(setting, by_ms)
        start = time.monotonic()
        victim.send(b'"after the jump"')
        wait_until(lambda: not victim.rows(UNFINISHED)[0][0])
        took_s = time.monotonic() - start
        problems = victim.complaints()
        wait_until(lambda: victim.log("clock.jumped"))  # else the daemon did not see the jump
        if (ran := len(runs.read_text().split())) != 2 * (WAITING + 1):
            problems.append(f"{ran} runs of {WAITING + 1} deliveries that need two each")
        if took_s < 0.9:
            problems.append(f"a delay of at least 1 s took {took_s:.2f} s")
        if victim.healthz()[0] != 200:
            problems.append("it is not healthy")
        victim.kill()
        victim.start("", (), (), True, **environment)
        if victim.rows("SELECT * FROM downtime"):
            problems.append("a clock that was set became a downtime")
    return problems


def main() -> None:
    campaigns.arguments(__doc__)
    output.configure("json", "error")
    problems = []
    for by_ms in (HOUR_BACK_MS, DAY_FORWARD_MS):
        with folder() as at:
            found = asyncio.run(jump(at, by_ms))
        print(
            f"set by {by_ms / 3_600_000:+g} h, in process: {found or 'nothing lost, stuck, early'}"
        )
        problems += found
        with folder() as at:
            found = jump_a_daemon(at, by_ms)
        print(
            f"set by {by_ms / 3_600_000:+g} h, libfaketime: {found or 'nothing lost, stuck, early'}"
        )
        problems += found
    with folder() as at:
        found = remove_by_a_wrong_clock(at)
    print(f"set by +400 d, and restarted: {found or 'nothing removed'}")
    campaigns.end(problems + found)


if __name__ == "__main__":
    main()
