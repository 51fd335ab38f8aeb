"""Hooks that misbehave: they flee, flood, hang and hold on.

    python -m tests.faults.hooks [--gigabytes 10] [--kills 300]

Nothing of them is left after their timeout and 5 s more, nor after a kill -9 of the daemon and
its restart; webhooks are answered meanwhile, and the daemon's memory stays bounded. A kill -9
while hooks start leaves nobody who waits busily for the dead.
"""

import json
import random
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.faults import campaigns
from tests.faults.daemon import UNFINISHED, Victim, folder, table
from tests.support.configuration import ONCE, shell
from tests.support.processes import alive
from tests.support.waiting import wait_until

KILL_AFTER_S = 5.0
MAX_GROWTH_KIB = 128 << 10  # each running hook holds its 5 MB body
BIG = 5 << 20

# The word is an argument of everything that must not survive. `{gb}` GB are written.
HOSTILE = {
    "ignores SIGTERM": "trap '' TERM; sleep {w} & while :; do sleep {w}; done",
    "has children and grandchildren": "(sleep {w} & (sleep {w} & sleep {w}) &) ; sleep {w}",
    "calls setsid": "setsid sleep {w} & sleep {w}",
    "calls setsid and ignores SIGTERM": "trap '' TERM; setsid sh -c 'sleep {w}; :' {w} & sleep {w}",
    "forks twice and ends well": "(setsid sh -c 'sleep {w} & sleep {w}' &) ; exit 0",
    "writes gigabytes": "head -c {gb}G /dev/zero; exec sleep {w}",
    "writes one endless line": "tr '\\0' x < /dev/zero | head -c {gb}G; exec sleep {w}",
    "writes endless lines": "yes | head -c {gb}G; exec sleep {w}",
    "closes its input at once": "exec <&-; exec sleep 0.2",
    "never reads its input": "exec sleep 0.5",
    "holds its output open": "sleep {w} & exit 0",
    "holds its output open, in another session": "setsid sleep {w} & exit 0",
    "closes its output and stays": "exec >&- 2>&-; exec sleep {w}",
    "fills its environment": "X=$(head -c 3000000 /dev/zero | tr '\\0' x);"
    " export X; exec sleep {w}",
    "ends by SIGSEGV": "sleep {w} & kill -SEGV $$",
    "ends by SIGKILL": "setsid sleep {w} & kill -KILL $$",
    "stops itself": "sleep {w} & kill -STOP $$",
}
# Without PREMBLY_… only the parent tells whose they are, and a kill -9 takes that away: then
# only the service's cgroup knows them, and systemd kills what is left in it.
UNMARKED = {
    "drops its environment and calls setsid": "env -i setsid sleep {w} & sleep {w}",
    "drops its environment and forks twice": "(env -i setsid sh -c 'sleep {w} & sleep {w}' &)",
}


@dataclass
class Endured:
    """How a daemon fared."""

    figures: dict[str, object] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.problems.append(otherwise)


def word() -> str:
    """Return an argument of `sleep` that nobody else uses: over a day, to the nanosecond."""
    return f"98765.{time.time_ns()}"


def make_victim(at: Path, hooks: dict[str, str], *, timeout_s: float, gigabytes: int) -> Victim:
    """Return a daemon with a hostile hook for each response code, and a good one for `00`."""
    actions = [
        shell(f"hostile-{number}", script, str(number), retry=ONCE, timeout=f"{timeout_s:g}s")
        for number, script in enumerate(
            script.format(w="%s", gb=gigabytes) for script in hooks.values()
        )
    ]
    mark = word()
    for action in actions:
        action["shell"] = action["shell"].replace("%s", mark)
    actions.append(shell("good", "true", "good", retry=ONCE))
    victim = Victim(at, actions=actions)
    victim.word = mark
    return victim


def body(code: str, size: int = 0) -> bytes:
    return json.dumps({"response_code": code, "reference": "r", "fill": "x" * size}).encode()


def misbehave(at: Path, *, timeout_s: float, gigabytes: int) -> Endured:
    """Run every hostile hook at once, and look for what is left when its time is over."""
    endured = Endured()
    hooks = HOSTILE | UNMARKED
    with make_victim(at, hooks, timeout_s=timeout_s, gigabytes=gigabytes) as victim:
        victim.start()
        idle = answer_times(victim, seconds=min(timeout_s, 2))
        before_kib = victim.memory_kib()
        for number in range(len(hooks)):
            assert victim.send(body(str(number), BIG)).status == 200
        busy = answer_times(victim, seconds=timeout_s + 1)
        peak_kib = victim.memory_kib()
        wait_until(lambda: not victim.rows(UNFINISHED)[0][0])
        (ended_ms,) = victim.rows("SELECT max(finished_at_ms - started_at_ms) FROM attempt")[0]
        ended_s = ended_ms / 1000
        wait_until(lambda: not alive(victim.word))
        _judge_attempts(victim, hooks, endured)
        grown_kib = max(peak_kib, victim.memory_kib()) - before_kib
        endured.expect(grown_kib < MAX_GROWTH_KIB, f"memory grew by {grown_kib} KiB")
        endured.problems += victim.complaints()[:3]
        endured.figures = {
            "hostile hooks": len(hooks),
            "written by each flooding hook": f"{gigabytes} GB, or until its timeout",
            "the last hook ended after": f"{ended_s:.1f} s (timeout {timeout_s:g} s)",
            "answers' p99, idle": f"{idle:.1f} ms",
            "answers' p99, meanwhile": f"{busy:.1f} ms",
            "memory grew by": f"{grown_kib} KiB",
        }
        victim.stop()
    return endured


def survive_a_kill(at: Path, hooks: dict[str, str]) -> Endured:
    """kill -9 the daemon while hostile hooks run, start it again, and look for what is left."""
    endured = Endured()
    with make_victim(at, hooks, timeout_s=600, gigabytes=1) as victim:
        victim.start()
        for number in range(len(hooks)):
            assert victim.send(body(str(number))).status == 200
        attempts = "SELECT count(*) FROM attempt"
        wait_until(lambda: victim.rows(attempts)[0][0] == len(hooks))
        wait_until(lambda: len(alive(victim.word)) >= len(hooks) - 4)
        time.sleep(0.5)
        running = len(alive(victim.word))
        victim.end_now()
        orphans = len(alive(victim.word))
        victim.start()
        if hooks is not UNMARKED:
            wait_until(lambda: not alive(victim.word))
        endured.expect(victim.send(body("good")).status == 200, "no webhook is taken")
        victim.wait_for_rows([("succeeded",)], "SELECT state FROM delivery WHERE action = 'good'")
        endured.problems += victim.complaints()[:3]
        endured.figures = {
            "hostile processes before the kill": running,
            "after the kill": orphans,
            "after the restart": len(alive(victim.word)),
        }
        for process in alive(victim.word):
            process.kill()
        victim.stop()
    return endured


def kill_while_hooks_start(at: Path, kills: int, rng: random.Random) -> Endured:
    """kill -9 the daemon again and again while it starts hooks as fast as it can, and look for
    children that did not get to be the hook, hold what is the daemon's, or keep a core busy."""
    endured = Endured()
    mark = word()
    start = {"response_codes": ["*"], "command": ["/bin/true", mark], "retry": ONCE}
    actions = [start | {"name": f"start-{number}"} for number in range(20)]
    with Victim(at, actions=actions, concurrency=32) as victim:
        for kill in range(kills):
            victim.start()
            for number in range(20):
                victim.send(body("x", kill * 20 + number), token=f"{kill}-{number}")
            time.sleep(rng.uniform(0, 0.1))
            victim.end_now()
            # Until it is the hook, a child has the daemon's own arguments.
            wait_until(lambda: not alive(mark, str(victim.config)))
        (started,) = victim.rows("SELECT count(*) FROM attempt")[0]
        victim.start()  # nobody has the lock or the address
        victim.stop()
    endured.figures = {"kills": kills, "hooks that were started": started}
    return endured


def answer_times(victim: Victim, seconds: float) -> float:
    """Send webhooks for `seconds`, and return the 99th percentile of the answers' ms."""
    times: list[float] = []
    end = time.monotonic() + seconds
    while len(times) < 2 or time.monotonic() < end:  # of one there are no quantiles
        start = time.monotonic()
        assert victim.send(body("none")).status == 200
        times.append((time.monotonic() - start) * 1000)
        time.sleep(0.005)
    return statistics.quantiles(times, n=100)[98]


def line(process: psutil.Process) -> str:
    """Return which process that is."""
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[-300:]}"
    except psutil.Error:
        return "gone"


def _judge_attempts(victim: Victim, hooks: Iterable[str], endured: Endured) -> None:
    sql = (
        "SELECT action, state, outcome, exit_code, length(CAST(output AS BLOB)), output_truncated"
        " FROM delivery JOIN attempt ON delivery.id = delivery_id"
    )
    rows: dict[str, list[Any]] = {name: row for name, *row in victim.rows(sql)}
    for number, name in enumerate(hooks):
        state, outcome, exit_code, kept, truncated = rows[f"hostile-{number}"]
        endured.expect(state in ("succeeded", "dead"), f"{name}: {state}")
        endured.expect(kept <= 64 << 10, f"{name}: {kept} bytes of output kept")
        if name.startswith("writes"):
            endured.expect(truncated and kept > (64 << 10) - 3, f"{name}: {kept} kept")
        if name.startswith("ends by"):
            endured.expect(exit_code < 0 and outcome == "failed", f"{name}: {outcome}, {exit_code}")


def main() -> None:
    arguments = campaigns.arguments(__doc__, gigabytes=10, timeout_s=60.0, kills=300)
    problems = []
    with folder() as at:
        endured = misbehave(at, timeout_s=arguments.timeout_s, gigabytes=arguments.gigabytes)
    table(endured.figures)
    problems += endured.problems
    for name, hooks in (("marked", HOSTILE), ("that dropped their environment", UNMARKED)):
        with folder() as at:
            endured = survive_a_kill(at, hooks)
        print(f"kill -9 of the daemon, hooks {name}:")
        table(endured.figures)
        problems += endured.problems
    with folder() as at:
        endured = kill_while_hooks_start(at, arguments.kills, random.Random())
    print("kill -9 of the daemon while hooks start:")
    table(endured.figures)
    problems += endured.problems
    campaigns.end(problems)


if __name__ == "__main__":
    main()
