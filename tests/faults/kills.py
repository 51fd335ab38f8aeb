"""Commands that are killed while they work: at any moment between what begins their work and their
end. How long that takes is learned on the way, so that most of them are still at work.
"""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tests.support.forking import Forked

# What a command calls when it begins to change something, or to write.
WORK = {
    "backup": ("premblyd.features.backup.copying", "back_up"),
    "encrypt": ("premblyd.features.encryption.cli", "encrypt_record"),
    "erase": ("premblyd.features.keeping.erasing", "erase"),
    "prune": ("premblyd.features.keeping.cli_record", "_remove"),
    "restore": ("premblyd.features.backup.restoring", "taken_in"),
    "vacuum": ("premblyd.features.keeping.vacuuming", "vacuum"),
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
