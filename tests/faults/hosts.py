"""The campaign of several hosts: three daemons on one PostgreSQL, of which one after the other is
killed, stopped for longer than its lease, restarted, or loses its connections.

    python -m tests.faults.hosts --cycles 200 [--seed N]

Clients send signed webhooks through a proxy, and repeat what got no 200, as Prembly's senders do.
Hooks write down who they are, outside the database. At the end the promises are checked.
"""

import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from premblyd import times
from premblyd.databases import Server
from tests.faults import campaigns, promises
from tests.faults.crash import RETRY, Book, Client, body_of
from tests.faults.daemon import Victim, folder
from tests.faults.worker import worker
from tests.support import postgresql
from tests.support.configuration import shell
from tests.support.database import rows
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

NAMES = ("a", "b", "c")
CLIENTS = 4
# One short line and O_APPEND: written whole or not at all. Every ninth run fails.
SCRIPT = """
echo "{action} $PREMBLY_DELIVERY $PREMBLY_ATTEMPT $PREMBLY_WORKER" >> {runs}
sleep 0.$((PREMBLY_DELIVERY % 4))
test $(( (PREMBLY_DELIVERY + PREMBLY_ATTEMPT) % 9 )) -ne 0
"""
ATTEMPTS = "SELECT delivery_id, number, worker FROM attempt"
RUNNING = "SELECT id FROM attempt WHERE worker LIKE ? AND finished_at_ms IS NULL"
# What a daemon ran when it died, and when that ran again elsewhere.
TAKEN_OVER = """
SELECT attempt.finished_at_ms, again.started_at_ms FROM attempt
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


class Campaign:
    """Cycles of load and harm."""

    def __init__(
        self,
        at: Path,
        server: Server,
        seed: int,
        *,
        lost_after_s: float = 1.0,
        clients: int = CLIENTS,
    ) -> None:
        self.rng = random.Random(seed)
        self.server = server
        self.lost_after_s = lost_after_s
        self.clients = clients
        self.book = Book()
        self.figures: Counter[str] = Counter()
        self.taken_over_ms: list[int] = []  # after a death, until what it ran was due again
        self.run_again_ms: list[int] = []
        self._deaths: list[tuple[str, int]] = []  # workers like this one died at this time
        self.runs = at / "runs"
        self.runs.touch()
        retry = RETRY | {"attempts": 8}
        self.victims = []
        for name in NAMES:
            own = at / name
            own.mkdir()
            self.victims.append(
                Victim(
                    own,
                    place=server,
                    hosts={"name": name, "lost_after": f"{lost_after_s:g}s"},
                    stop_timeout="200ms",
                    actions=[
                        shell("count", self._script("count"), retry=retry, concurrency=12),
                        worker("work", self._script("work"), concurrency=6, retry=retry),
                    ],
                )
            )
        self._faults: list[Callable[[Victim], None]] = [
            self._kill,
            self._kill,
            self._freeze,
            self._freeze,
            self._restart,
            self._cut,
        ]

    def _script(self, action: str) -> str:
        return SCRIPT.format(action=action, runs=self.runs)

    def run(self, cycles: int, *, say_every: int = 0) -> list[str]:
        """Run the campaign and return every broken promise."""
        with ExitStack() as opened:
            for victim in self.victims:
                opened.enter_context(victim).restart()
            proxy = opened.enter_context(Proxy([victim.address for victim in self.victims]))
            clients = [
                Client(proxy, self.book, number, random.Random(self.rng.random()))
                for number in range(self.clients)
            ]
            with campaigns.sending(clients):
                for _ in campaigns.count_cycles(
                    cycles, say_every, lambda: f"{len(self.book.events)} events"
                ):
                    self.rng.choice(self._faults)(self.rng.choice(self.victims))
                    time.sleep(self.rng.uniform(0, 0.3))
            self.victims[0].finish()
            self._check()
            for victim in self.victims:
                self.book.problems += victim.end()
        return self.book.problems

    def _kill(self, victim: Victim) -> None:
        """kill -9, every other time while a hook runs, and start again: sometimes before the others
        have noticed."""
        if self.figures["kills"] % 2 == 0:
            wait_until(lambda: rows(self.server, RUNNING, _worker(victim)))
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

    def _cut(self, _: Victim) -> None:
        """End some of the daemons' connections."""
        self.figures["cut connections"] += len(rows(self.server, CUT))

    def _note_death(self, victim: Victim) -> None:
        self._deaths.append((_worker(victim), times.now_ms()))

    def _check(self) -> None:
        lines = [line.split() for line in self.runs.read_text().splitlines()]
        runs = [(int(delivery), int(attempt), daemon) for _, delivery, attempt, daemon in lines]
        attempts = set(rows(self.server, ATTEMPTS))
        broken = promises.broken(self.server, promises.runs_in(self.runs), Counter())
        broken["runs by another host than the attempt's"] = len(set(runs) - attempts)
        broken["starts of what another host had taken over and started"] = _late_starts(runs)
        self.book.problems += promises.kept(self.server, list(self.book.events.items()), body_of)
        self.book.problems += [f"{name}: {number}" for name, number in broken.items() if number]
        for daemon, at_ms in self._deaths:
            found = rows(self.server, TAKEN_OVER, daemon, at_ms, at_ms)
            self.taken_over_ms += [due_ms - at_ms for due_ms, _ in found]
            self.run_again_ms += [again_ms - at_ms for _, again_ms in found]
        logs = [victim.whole_log() for victim in self.victims]
        self.figures.update(
            {
                "events acknowledged": len(self.book.events),
                "answers 200": self.book.answers[200],
                "answers 503": self.book.answers[503],
                "runs counted by the hook": len(runs),
                "hosts found lost": sum(log.count('"event":"host.lost"') for log in logs),
                "hosts that came back": sum(log.count('"event":"host.fenced"') for log in logs),
                "late reports that changed nothing": sum(
                    log.count('"event":"attempt.lease_lost"') for log in logs
                ),
                **promises.figures(self.server),
                **broken,
            }
        )


def main() -> None:
    def make(opened: ExitStack, seed: int) -> Campaign:
        at, server = opened.enter_context(folder()), opened.enter_context(postgresql.server())
        return Campaign(at, server, seed)

    def taken_over(campaign: Campaign) -> dict[str, object]:
        return {
            "due again after a death (ms)": _summary(campaign.taken_over_ms),
            "run again after a death (ms)": _summary(campaign.run_again_ms),
        }

    campaigns.main(__doc__, make, cycles=200, say_every=10, more=taken_over)


def _worker(victim: Victim) -> str:
    """Return a pattern of what a daemon's attempts call who runs them."""
    return f"{victim.folder.name}:{victim.process.pid}:%"


def _late_starts(runs: Sequence[tuple[int, int, str]]) -> int:
    """Return how many of `runs`, in the order in which they began, came after a later attempt of
    their delivery: a host that slept, say, that did not look again."""
    last: dict[int, int] = {}
    late = 0
    for delivery, attempt, _ in runs:
        late += attempt < last.get(delivery, 0)
        last[delivery] = max(attempt, last.get(delivery, 0))
    return late


def _summary(values: list[int]) -> str:
    if not values:
        return "none"
    return f"{len(values)} times, median {statistics.median(values):.0f}, longest {max(values)}"


if __name__ == "__main__":
    main()
