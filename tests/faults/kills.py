"""Commands that are killed while they work: at any moment between what begins their work and their
end. How long that takes is learned on the way, so that most of them are still at work.

    python -m tests.faults.kills [--kills 200] [--at-once 2] [--seed N]

runs all campaigns of such commands, so many at once, each until every kind was killed so often, and
says how often that was, and how many promises were broken.
"""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol

from tests.faults import campaigns
from tests.faults.daemon import table
from tests.support.forking import Forked

# What a command calls when it begins to change something, or to write.
WORK = {
    "erase": ("premblyd.keep.erasing", "erase"),
    "prune": ("premblyd.cli.prune", "_remove"),
}
BEFORE = """
import importlib, os
def tell_of(call):
    def told(*arguments, **named):
        os.write({descriptor}, b"!")
        return call(*arguments, **named)
    return told
of = importlib.import_module("{module}")
setattr(of, "{name}", tell_of(of.{name}))
"""
ALL = (
    ("keeping",),
    ("keeping", "--hosts", "2"),
)
FIGURE = re.compile(r"^  (\S.*?) +(\d+)$", re.MULTILINE)
FIRST_S = 0.3  # how long any of them is thought to work at first
LEAST_S = 0.005


class Starts(Protocol):
    """What starts a command: `before` is Python that it runs first."""

    def __call__(self, *, before: str, pass_fds: Sequence[int]) -> Forked: ...


class Kills:
    """How often commands of each kind were killed at work."""

    def __init__(self, rng: random.Random, figures: Counter[str]) -> None:
        self.counts: Counter[str] = Counter()
        self._rng = rng
        self._figures = figures
        self._lasts_s: dict[str, float] = {}

    def kill(self, kind: str, start: Starts, also: Callable[[], object] = lambda: None) -> bool:
        """Start a command and kill it at work, with what `also` kills just before. Return whether
        it was killed: else it had nothing to do, or was faster."""
        module, name = WORK[kind]
        told, telling = os.pipe()
        with os.fdopen(told, "rb", buffering=0) as begun:
            try:
                before = BEFORE.format(descriptor=telling, module=module, name=name)
                process = start(before=before, pass_fds=[telling])
            finally:
                os.close(telling)
            had_to_work = bool(begun.read(1))  # or it has ended
        lasts_s = self._lasts_s.get(kind, FIRST_S)
        began_s = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self._rng.uniform(0, lasts_s))
        if process.poll() is None:
            also()
            process.kill()
        process.wait()
        was_killed = had_to_work and process.returncode == -signal.SIGKILL
        if was_killed:
            self.counts[kind] += 1
            self._lasts_s[kind] = lasts_s * 1.2
        elif had_to_work:
            self._lasts_s[kind] = max(LEAST_S, time.monotonic() - began_s)
        ending = "killed" if was_killed else "faster" if had_to_work else "had nothing to do"
        self._figures[f"{kind}: {ending}"] += 1
        return was_killed

    def note(self, kind: str, count: int) -> None:
        """Count what was killed otherwise."""
        self.counts[kind] += count
        self._figures[f"{kind}: killed"] += count

    def are_enough(self, kinds: Mapping[str, object], wanted: int) -> bool:
        """Return whether each kind was killed so often."""
        return all(self.counts[kind] >= wanted for kind in kinds)

    def rarest(self, kinds: Mapping[str, object]) -> str:
        """Return the kind that was killed least."""
        return min(kinds, key=lambda kind: self.counts[kind])


def main() -> None:
    asked = campaigns.arguments(__doc__, kills=200, at_once=2, seed=campaigns.ANY)
    start = time.monotonic()
    found: dict[str, object] = {}
    broken: list[str] = []
    with ThreadPoolExecutor(asked.at_once) as pool:
        more = ("--kills", asked.kills, "--seed", asked.seed)
        running = {pool.submit(_run, (*words, *more)): " ".join(words) for words in ALL}
        for future in as_completed(running):
            name, done = running[future], future.result()
            counts = dict(FIGURE.findall(done.stdout))
            found |= {f"{name}: {kind}": counts[kind] for kind in counts if "killed" in kind}
            found[f"{name}: broken promises"] = counts.get("broken promises", "it stopped")
            if done.returncode:
                broken.append(f"{name}: {done.stdout}{done.stderr}")
            print(f"{name} ended with {done.returncode}", flush=True)
    print(f"{asked.kills} kills of each kind, seed {asked.seed}, {time.monotonic() - start:.0f} s")
    table(found)
    campaigns.end(broken)


def _run(words: Sequence[object]) -> "subprocess.CompletedProcess[str]":
    name, *more = map(str, words)
    module = f"tests.faults.{name}"
    command = [sys.executable, "-m", module, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main()
