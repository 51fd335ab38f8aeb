"""Workers that misbehave, in every way that a worker has: see tests/faults/hostile.py.

    python -m tests.faults.workers [--rounds 5]

They get deliveries side by side with workers and shells that are good. Each delivery ends as it
must, none runs again once its success is on record, the others all succeed, nothing that a worker
says is quoted, and of none anything is left: neither after a stop, by mark or by descriptor, nor
after a kill -9 of the daemon and its restart.
"""

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.faults import campaigns
from tests.faults.daemon import Victim, folder, table
from tests.faults.hooks import MAX_GROWTH_KIB, Endured, answer_times, word
from tests.faults.hostile import EACH, HOSTILE, POISON, SPILLED, UNMARKED, Ends, Hostile, action
from tests.faults.promises import Run, runs_in
from tests.faults.worker import worker
from tests.support.configuration import ONCE, shell
from tests.support.processes import VISIBLE, runs
from tests.support.waiting import wait_until

GOOD = "good"  # the response code of what must not be harmed
BIG = 100_000  # bytes of a body: a pipe holds fewer
STATES = "SELECT action, state, event.body FROM delivery JOIN event ON event.id = event_id"
ATTEMPTS = """
SELECT action, delivery_id, number, attempt.outcome FROM attempt
JOIN delivery ON delivery.id = delivery_id
"""
UNENDED = "SELECT DISTINCT action FROM delivery WHERE state IN ('pending', 'running')"
KEPT = "SELECT max(length(CAST(output AS BLOB))) FROM attempt"
QUOTING = "SELECT count(*) FROM attempt WHERE error LIKE ?"
ALLOWED = {
    Ends.SUCCEEDED: {"succeeded"},
    Ends.DEAD: {"dead"},
    Ends.EITHER: {"succeeded", "dead"},
    Ends.POISONED: {"succeeded", "dead"},
    Ends.ANYHOW: {"succeeded", "dead", "pending", "running"},
}


class Siege:
    """A daemon with hostile workers and good ones."""

    def __init__(self, at: Path, hostile: dict[str, Hostile], **more: Any) -> None:
        """`more` is what all hostile actions have beside their own."""
        self.endured = Endured()
        self.hostile = {f"hostile-{number}": name for number, name in enumerate(hostile)}
        self._by_name = hostile
        self.word = word()
        more = {"concurrency": 2, **more}
        self.runs = at / "runs"
        self.runs.touch()
        actions = [
            action(number, each, word=self.word, runs=self.runs, **more)
            for number, each in enumerate(hostile.values())
        ]
        actions += [
            shell("good", "true", GOOD, retry=ONCE),
            worker("good-worker", "true", GOOD, retry=ONCE),
        ]
        self.victim = Victim(at, actions=actions, stop_timeout="2s")
        self.pipes: set[str] = set()  # that processes of hooks had

    def send(self) -> None:
        """Send each hostile worker what it gets, and one webhook to the good after each."""
        for code in range(len(self.hostile)):
            for number in range(EACH):
                assert self.victim.send(body(str(code), number, BIG)).status == 200
            assert self.victim.send(body(GOOD, code)).status == 200

    def wait(self) -> None:
        """Wait until all have ended that can."""
        no_matter = self._that(Ends.ANYHOW)

        def have_ended() -> bool:
            self._note_pipes()
            return not self._names(UNENDED) - no_matter

        wait_until(have_ended)

    def judge(self) -> None:
        """Look whether each delivery ended as it must, and what was run."""
        endured, victim = self.endured, self.victim
        states: dict[str, Counter[str]] = {}
        for name, state, content in victim.rows(STATES):
            states.setdefault(name, Counter())[state] += 1
            is_poison = json.loads(content)["n"] == POISON
            if self._ends(name) is Ends.POISONED and (state == "dead") != is_poison:
                endured.problems.append(f"{self.hostile[name]}: a neighbour paid")
        for name, counted in states.items():
            sent = EACH if name in self.hostile else len(self.hostile)
            if not counted.keys() <= ALLOWED[self._ends(name)] or counted.total() != sent:
                endured.problems.append(f"{self.hostile.get(name, name)}: {dict(counted)}")
        self.judge_runs()
        kept = victim.rows(KEPT)[0][0]
        endured.expect(kept <= 64 << 10, f"{kept} bytes of output kept")
        quoting = victim.rows(QUOTING, f"%{SPILLED}%")[0][0]
        endured.expect(not quoting, f"{quoting} errors quote a worker")
        endured.expect(SPILLED not in victim.whole_log(), "the log quotes a worker")
        endured.problems += victim.complaints()[:3]

    def judge_runs(self) -> None:
        written = Counter(runs_in(self.runs))
        attempts = {Run(*run): outcome for *run, outcome in self.victim.rows(ATTEMPTS)}
        succeeded = {run.delivery: run.attempt for run in attempts if attempts[run] == "succeeded"}
        broken = {
            "attempts that ran twice": sum(count > 1 for count in written.values()),
            "runs without an attempt": len(written.keys() - attempts.keys()),
            "runs after a success on record": sum(
                run.attempt > succeeded.get(run.delivery, run.attempt) for run in written
            ),
        }
        self.endured.problems += [f"{name}: {count}" for name, count in broken.items() if count]
        self.endured.figures["runs"] = len(written)
        self.endured.figures |= Counter(f"attempts {end}" for end in attempts.values())

    def stop(self) -> None:
        """Stop the daemon, and look for what is left of it."""
        self._note_pipes()
        start = time.monotonic()
        self.victim.signal(signal.SIGTERM)
        code = self.victim.process.wait()
        self.endured.figures["the stop took"] = f"{time.monotonic() - start:.1f} s"
        self.endured.expect(code == 0, f"it stopped with {code}")
        wait_until(lambda: not bearing(self.word) | holding(self.pipes))

    def _note_pipes(self) -> None:
        for process in self.victim.hooks():
            self.pipes |= {link for link in links(process.pid) if link.startswith("pipe:")}
        self.pipes -= links(os.getpid())

    def _names(self, sql: str) -> set[str]:
        return {name for (name,) in self.victim.rows(sql)}

    def _that(self, ends: Ends) -> set[str]:
        return {name for name in self.hostile if self._ends(name) is ends}

    def _ends(self, name: str) -> Ends:
        """Return how the deliveries of an action end: those of the good succeed."""
        return self._by_name[self.hostile[name]].ends if name in self.hostile else Ends.SUCCEEDED


def body(code: str, number: int, size: int = 0) -> bytes:
    return json.dumps({"response_code": code, "n": number, "fill": "x" * size}).encode()


def misbehave(at: Path) -> Endured:
    """Have every hostile worker work, beside good ones, and look for what is left after a stop."""
    siege = Siege(at, HOSTILE | UNMARKED)
    with siege.victim as victim:
        victim.start(VISIBLE)
        idle_ms = answer_times(victim, seconds=1)
        before_kib = victim.memory_kib()
        siege.send()
        busy_ms = answer_times(victim, seconds=2)
        siege.wait()
        grown_kib = victim.memory_kib() - before_kib
        siege.judge()
        siege.endured.expect(grown_kib < MAX_GROWTH_KIB, f"memory grew by {grown_kib} KiB")
        siege.stop()
    siege.endured.figures |= {
        "hostile workers": len(siege.hostile),
        "answers' p99, idle": f"{idle_ms:.1f} ms",
        "answers' p99, meanwhile": f"{busy_ms:.1f} ms",
        "memory grew by": f"{grown_kib} KiB",
    }
    return siege.endured


def survive_kills(at: Path, rounds: int, rng: random.Random) -> Endured:
    """kill -9 the daemon while hostile workers work, start it again, and look for what was left."""
    siege = Siege(at, HOSTILE, timeout="10m", start_timeout="10m")
    endured = siege.endured
    orphans = 0
    with siege.victim as victim:
        victim.restart()
        for _ in range(rounds):
            siege.send()
            wait_until(lambda: len(bearing(siege.word)) > len(HOSTILE) // 4)
            time.sleep(rng.uniform(0, 1))
            victim.end_now()
            before = bearing(siege.word)
            orphans += len(before)
            victim.restart()
            wait_until(lambda: not _running(before))  # noqa: B023
            assert victim.send(body(GOOD, 0)).status == 200
        good = "SELECT count(*) FROM delivery WHERE action LIKE 'good%' AND state = 'pending'"
        victim.wait_for_rows([(0,)], good)
        siege.judge_runs()
        endured.problems += victim.complaints()[:3]
        siege.stop()
    endured.figures |= {"kills": rounds, "processes that a kill orphaned": orphans}
    return endured


def bearing(word: str) -> set[psutil.Process]:
    """Return the processes that have `word` as an argument or in their environment."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            arguments = process.cmdline()
            environ = Path(f"/proc/{process.pid}/environ").read_bytes()
            if (word in arguments or word.encode() in environ) and runs(process):
                found.add(process)
    return found


def holding(pipes: set[str]) -> set[psutil.Process]:
    """Return the processes that have one of these pipes open."""
    return {process for process in psutil.process_iter() if links(process.pid) & pipes}


def _running(processes: set[psutil.Process]) -> set[psutil.Process]:
    return {process for process in processes if runs(process)}


def links(pid: int) -> set[str]:
    """Return what the descriptors of a process are of."""
    return set(_links(pid))


def _links(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(f"/proc/{pid}/fd/{name}")


def main() -> None:
    arguments = campaigns.arguments(__doc__, rounds=5, seed=campaigns.ANY)
    with folder() as at:
        endured = misbehave(at)
    print("hostile workers:")
    table(endured.figures)
    problems = endured.problems
    with folder() as at:
        endured = survive_kills(at, arguments.rounds, random.Random(arguments.seed))
    print(f"kill -9 of the daemon, seed {arguments.seed}:")
    table(endured.figures)
    campaigns.end(problems + endured.problems)


if __name__ == "__main__":
    main()
