"""The row about a rehearsal: how long it takes beside a daemon, and what it costs the webhooks."""

import functools
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from premblyd import times
from tests.bench import filled, load, peers, rows
from tests.bench.filled import Filling
from tests.bench.rows import Measured, Row
from tests.bench.serving import EVERY, steady
from tests.support import commands

REHEARSED = 100_000  # events
BUDGET_MS = 30_000.0
RATE = 50.0  # webhooks a second, each with a hook
SINCE = "2000-01-01"  # all of them
DIFFERS = 3  # how `rehearse` ends then
_DONE = {"name": filled.DONE, "command": ["/bin/true"]}
# What waits for it in the record goes on waiting.
_SLOW = {"name": filled.SLOW, "command": ["/bin/sleep", "600"], "response_codes": ["99"]}
PRESENT = ({**_DONE, **EVERY}, _SLOW)
# Fewer by `when`, more of those that no action was for, and `once` to be looked up for each.
NEW = (
    {**_DONE, **EVERY, "when": "outcome == 'verified'", "once": "reference"},
    {"name": "paid", "command": ["/bin/true"], **EVERY, "types": ["transaction.*"]},
    _SLOW,
)


def rehearse(folder: Path, events: int, seconds: float) -> Row:
    """Answers to few webhooks while a record is rehearsed, against nobody who does that; and how
    long the rehearsal takes."""
    count = min(events, REHEARSED)

    def ours() -> Measured:
        with (
            peers.premblyd(_prepared(folder, count), actions=PRESENT) as daemon,
            ThreadPoolExecutor(1) as pool,
        ):
            rehearsal = pool.submit(_rehearse, daemon.config, count)
            answers = load.Answers()
            while not rehearsal.done():
                answers.add(steady(daemon, 1, RATE))
            return {**_answered(answers), **rehearsal.result()}

    def theirs() -> Measured:
        with peers.premblyd(_prepared(folder, count), actions=PRESENT) as daemon:
            answers = steady(daemon, seconds, RATE)
        return {**_answered(answers), "took": BUDGET_MS, "processor": BUDGET_MS}

    return Row(
        name="rehearse",
        title=f"a rehearsal of {count:,} events beside {RATE:g} webhooks/s",
        peer="nobody rehearses; budget",
        goals=(
            rows.time("took", "the rehearsal", 1.0, 0.5),
            rows.time("processor", "processor time of that", 1.0, 0.5),
            rows.time("p50", "p50 of answers"),
            rows.time("p99", "p99 of answers", 3.0, 1.5),
        ),
        ours=ours,
        theirs=theirs,
    )


@functools.cache
def _prepared(folder: Path, count: int) -> Path:
    """Return the folder of a record of so many events, as a daemon would have left it."""
    own = folder / f"rehearsed-{count}"
    own.mkdir()
    filled.fill(own / "premblyd.db", Filling(count, times.now_ms()))
    return own


def _answered(answers: load.Answers) -> dict[str, float]:
    return {"p50": answers.p50_ms, "p99": answers.p99_ms}


def _rehearse(config: Path, count: int) -> dict[str, float]:
    """Rehearse all of a record; return how long that took, and its processor time."""
    new, out = config.with_name("new.yaml"), config.with_name("rehearsed.json")
    new.write_text(json.dumps(json.loads(config.read_text()) | {"actions": NEW}))
    words = commands.command("--config", config, "rehearse", new, "--since", SINCE, "--json")
    with out.open("wb") as stdout:
        begun = time.perf_counter()
        process = subprocess.Popen(words, stdout=stdout)
        _, status, usage = os.wait4(process.pid, 0)
        took_s = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    rehearsed = json.loads(out.read_bytes() or "{}").get("events", 0)
    if process.returncode != DIFFERS or rehearsed < count:
        raise load.LoadError(f"{rehearsed} were rehearsed, exit status {process.returncode}")
    return {"took": took_s * 1000, "processor": (usage.ru_utime + usage.ru_stime) * 1000}
