"""The campaign of several hosts: three daemons on one PostgreSQL, of which one after the other is
killed, stopped for longer than its lease, restarted, or loses its connections.

    python -m tests.faults.hosts --cycles 200 [--seed N]

Otherwise it is the crash campaign; clients send through a proxy.
"""

import signal
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from premblyd.features.postgresql.settings import Server
from premblyd.ground import times
from premblyd.ground.databases import DatabaseAddress
from tests.faults import campaigns, crash
from tests.faults.daemon import Victim, folder
from tests.support import postgresql
from tests.support.database import rows
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

NAMES = ("a", "b", "c")
RUNNING = "SELECT id FROM attempt WHERE worker LIKE ? AND finished_at_ms IS NULL"
# What a daemon ran when it died, and when that ran again elsewhere.
TAKEN_OVER = """
SELECT again.started_at_ms FROM attempt
JOIN attempt again ON again.delivery_id = attempt.delivery_id AND again.number = attempt.number + 1
WHERE attempt.worker LIKE ? AND attempt.outcome = 'interrupted' AND attempt.started_at_ms < ?
AND again.started_at_ms > ?
"""
CUT = """
SELECT pg_terminate_backend(pid) FROM (
    SELECT pid FROM pg_stat_activity WHERE application_name = 'premblyd'
    AND datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 3
) AS chosen
"""
# What a log says, and in words.
TOLD = {
    "host.lost": "hosts found lost",
    "host.fenced": "hosts that came back",
    "attempt.lease_lost": "late reports that changed nothing",
}


class Campaign(crash.Campaign):
    """Cycles of load and harm."""

    takes_s = "0."  # so that something runs when a daemon dies

    def __init__(
        self, at: Path, server: Server, seed: int, *, lost_after_s: float = 1.0, **more: Any
    ) -> None:
        self.lost_after_s = lost_after_s
        self.run_again_ms: list[int] = []  # after a death, until what it ran ran again
        self._deaths: list[tuple[str, int]] = []  # workers like this one died at this time
        super().__init__(at, seed, place=server, **more)
        self._faults: list[Callable[[Victim], None]] = [
            *[self._kill, self._kill, self._freeze, self._freeze, self._restart, self._cut]
        ]

    def make_victims(self, place: DatabaseAddress | None) -> Sequence[Victim]:
        victims = []
        for name in NAMES:
            (own := self.at / name).mkdir()
            hosts = {"name": name, "lost_after": f"{self.lost_after_s:g}s"}
            more: dict[str, Any] = {"hosts": hosts, "stop_timeout": "200ms", **self.settings()}
            more["actions"][0]["retry"] = more["actions"][1]["retry"] = crash.RETRY | {
                "attempts": 8
            }
            victims.append(Victim(own, place=place, **more))
        return victims

    def target(self, opened: ExitStack) -> crash.Target:
        return opened.enter_context(Proxy([victim.address for victim in self.victims]))

    def harm(self) -> None:
        self.rng.choice(self._faults)(self.rng.choice(self.victims))
        time.sleep(self.rng.uniform(0, 0.3))

    def _kill(self, victim: Victim) -> None:
        """kill -9, every other time while a hook runs, and start again: sometimes before the others
        have noticed."""
        if self.figures["kills"] % 2 == 0:
            wait_until(lambda: rows(victim.place, RUNNING, _worker(victim)))
        self._note_death(victim)
        victim.end_now()
        self.figures["kills"] += 1
        time.sleep(self.rng.choice([0.0, self.rng.uniform(0, 2 * self.lost_after_s)]))
        victim.restart()

    def _freeze(self, victim: Victim) -> None:
        """SIGSTOP, mostly for longer than the lease."""
        self._note_death(victim)
        victim.process.send_signal(signal.SIGSTOP)
        self.figures["stops by SIGSTOP"] += 1
        time.sleep(self.rng.uniform(0.3, 3 * self.lost_after_s))
        victim.process.send_signal(signal.SIGCONT)

    def _restart(self, victim: Victim) -> None:
        victim.process.terminate()
        if victim.process.wait() != 0:
            self.book.problems.append("one did not stop cleanly")
        self.figures["restarts"] += 1
        victim.restart()

    def _cut(self, victim: Victim) -> None:
        """End some of the daemons' connections."""
        self.figures["cut connections"] += len(rows(victim.place, CUT))

    def _note_death(self, victim: Victim) -> None:
        self._deaths.append((_worker(victim), times.now_ms()))

    def _check_end(self) -> None:
        super()._check_end()
        for daemon, at_ms in self._deaths:
            found = rows(self.victim.place, TAKEN_OVER, daemon, at_ms, at_ms)
            self.run_again_ms += [again_ms - at_ms for (again_ms,) in found]
        logs = [victim.whole_log() for victim in self.victims]
        for event, words in TOLD.items():
            self.figures[words] = sum(log.count(f'"event":"{event}"') for log in logs)


def main() -> None:
    def make(opened: ExitStack, asked: Namespace) -> Campaign:
        at, server = opened.enter_context(folder()), opened.enter_context(postgresql.server())
        return Campaign(at, server, asked.seed)

    def taken_over(campaign: Campaign) -> dict[str, object]:
        again = campaign.run_again_ms or [0]
        median, count = statistics.median(again), len(campaign.run_again_ms)
        words = f"{count} times, median {median:.0f}, longest {max(again)}"
        return {"run again after a death (ms)": words}

    campaigns.main(__doc__, make, cycles=200, say_every=10, more=taken_over)


def _worker(victim: Victim) -> str:
    """Return a pattern of what a daemon's attempts call who runs them."""
    return f"{victim.folder.name}:{victim.process.pid}:%"


if __name__ == "__main__":
    main()
