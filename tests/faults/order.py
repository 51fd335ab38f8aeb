"""The campaign of `order`: many events of each reference, through kill -9.

    python -m tests.faults.order --events 10000 --references 1000 [--hosts N] [--seed N]

With 0 hosts one daemon has a file; else so many share a PostgreSQL database.
Clients send events of random references to any of the daemons, and repeat what got no 200. Hooks,
a shell and a worker, take a random time, and every sixth run fails. Each writes down what it
did, outside the database; daemons are killed and started again meanwhile. Of each action and
reference the successes must be in the order of receipt, which is that of the events' numbers.
"""

import json
import random
import threading
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from premblyd.databases import Server
from tests.faults import campaigns
from tests.faults.daemon import UNFINISHED, Victim, folder, table
from tests.faults.worker import worker
from tests.support import postgresql
from tests.support.configuration import shell
from tests.support.database import rows
from tests.support.waiting import wait_until

CLIENTS = 6
# So many attempts that no delivery dies. One short line and O_APPEND: written whole or not at all.
RETRY = {"attempts": 900, "first_delay": "10ms", "factor": 1.5, "max_delay": "200ms"}
SCRIPT = """
sleep 0.0$(( (PREMBLY_DELIVERY * 7 + PREMBLY_ATTEMPT * 3) % 6 ))
test $(( (PREMBLY_DELIVERY + PREMBLY_ATTEMPT * 5) % 6 )) -ne 0 || exit 1
echo "{action} $PREMBLY_REFERENCE $PREMBLY_EVENT" >> {effects}
"""
SUCCESSES = """
SELECT action, event.reference, event.id, attempt.started_at_ms, attempt.finished_at_ms FROM attempt
JOIN delivery ON delivery.id = attempt.delivery_id JOIN event ON event.id = delivery.event_id
WHERE attempt.outcome = 'succeeded' ORDER BY event.id
"""
FIGURES = {
    "attempts": "SELECT count(*) FROM attempt",
    "attempts that failed": "SELECT count(*) FROM attempt WHERE outcome = 'failed'",
    "attempts interrupted": "SELECT count(*) FROM attempt WHERE outcome = 'interrupted'",
}
BROKEN = {
    "deliveries that did not succeed": "SELECT count(*) FROM delivery WHERE state <> 'succeeded'",
    "deliveries that wait still": "SELECT count(*) FROM delivery WHERE waits_for_id IS NOT NULL",
    "deliveries that succeeded twice": "SELECT count(*) FROM (SELECT 1 FROM attempt"
    " WHERE outcome = 'succeeded' GROUP BY delivery_id HAVING count(*) > 1) AS twice",
    "events without their deliveries": "SELECT count(*) FROM event WHERE"
    " (SELECT count(*) FROM delivery WHERE event_id = event.id) <> 2",
}
# So far the clocks of two hosts may be apart, which they take from the database: a busy machine may
# hold up the first reading.
CLOCKS_MS = 1_000


class Campaign:
    """Events of many references, and harm."""

    def __init__(
        self,
        at: Path,
        server: Server | None,
        seed: int,
        *,
        events: int,
        references: int,
        hosts: int = 1,
        pause_s: float = 2.0,
    ) -> None:
        """Without `server` the database is a file, and there is one daemon. `pause_s`: between two
        kills, about."""
        self.rng = random.Random(seed)
        self.pause_s = pause_s
        self.effects = at / "effects"
        self.effects.touch()
        self._effects_size = 0
        numbers = range(events)
        self._bodies = [self._body(number, references) for number in numbers]
        self._unsent = iter(self._bodies)
        self._lock = threading.Lock()
        self.acknowledged: dict[bytes, int] = {}
        self.problems: list[str] = []
        self.figures: Counter[str] = Counter()
        self.victims = []
        for name in "abc"[:hosts]:
            own = at / name
            own.mkdir()
            hosts_of = {"hosts": {"name": name, "lost_after": "1s"}} if server else {}
            place = server or own / "premblyd.db"
            self.victims.append(
                Victim(own, place=place, actions=self._actions(), stop_timeout="5s", **hosts_of)
            )

    def _actions(self) -> list[dict[str, Any]]:
        def script(action: str) -> str:
            return SCRIPT.format(action=action, effects=self.effects)

        more: dict[str, Any] = {"order": "reference", "retry": RETRY}
        return [
            shell("act", script("act"), concurrency=16, **more),
            worker("line", script("line"), concurrency=8, **more),
        ]

    def _body(self, number: int, references: int) -> bytes:
        reference = f"ref-{self.rng.randrange(references)}"
        return json.dumps({"number": number, "reference": reference}).encode()

    def run(self) -> list[str]:
        """Run it, and return every broken promise."""
        with ExitStack() as opened:
            for victim in self.victims:
                opened.enter_context(victim)
                victim.launch()
            clients = [threading.Thread(target=self._send) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            while not self._is_over(clients):
                self._kill(self.rng.choice(self.victims))
                time.sleep(self.rng.uniform(0.5, 1.5) * self.pause_s)
            for client in clients:
                client.join()
            self._check()
            for victim in self.victims:
                # It may just have been started.
                wait_until(lambda: victim.healthz()[0] == 200)  # noqa: B023
                self.problems += victim.end()
        return self.problems

    def _send(self) -> None:
        rng = random.Random(threading.get_ident())
        while True:
            with self._lock:
                body = next(self._unsent, None)
            if body is None:
                return
            while (answer := rng.choice(self.victims).try_to_send(body)) is None or (
                answer.status != 200
            ):
                time.sleep(0.02)
            with self._lock:
                self.acknowledged[body] = answer.json["event"]

    def _kill(self, victim: Victim) -> None:
        """kill -9, and start again: of several, sometimes after others have taken over."""
        if victim.healthz()[0] != 200 or not self._has_gone_on():
            return
        victim.end_now()
        self.figures["kills"] += 1
        if len(self.victims) > 1:
            time.sleep(self.rng.choice([0.0, self.rng.uniform(0, 2.0)]))
        victim.launch()

    def _has_gone_on(self) -> bool:
        """Return whether a hook has run since the last kill: on a busy machine a daemon that was
        killed each time it is up would never end."""
        before, self._effects_size = self._effects_size, self.effects.stat().st_size
        return self._effects_size > before

    def _is_over(self, clients: list[threading.Thread]) -> bool:
        if any(client.is_alive() for client in clients):
            return False
        return self._rows(UNFINISHED) == [(0,)]

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return rows(self.victims[0].place, sql)

    def _check(self) -> None:
        broken: Counter[str] = Counter(
            {name: self._rows(sql)[0][0] for name, sql in BROKEN.items()}
        )
        stored = {number for (number,) in self._rows("SELECT id FROM event")}
        broken["acknowledged events that are not stored"] = len(
            set(self.acknowledged.values()) - stored
        )
        broken["events sent and not acknowledged"] = len(self._bodies) - len(self.acknowledged)
        done: dict[tuple[str, str], list[int]] = defaultdict(list)
        for line in self.effects.read_text().splitlines():
            action, reference, event = line.split()
            done[action, reference].append(int(event))
        broken["references whose effects are out of order"] = sum(
            events != sorted(events) for events in done.values()
        )
        had = {(action, event) for (action, _), events in done.items() for event in events}
        broken["events without their effects"] = 2 * len(stored) - len(had)
        ended: dict[tuple[str, str], int] = {}
        for action, reference, _, started_at_ms, finished_at_ms in self._rows(SUCCESSES):
            if started_at_ms + CLOCKS_MS < ended.get((action, reference), 0):
                broken["successes that began before the one before them ended"] += 1
            ended[action, reference] = finished_at_ms
        self.problems += [f"{name}: {count}" for name, count in broken.items() if count]
        self.figures.update(
            {
                "events acknowledged": len(self.acknowledged),
                "actions and references": len(done),
                "longest line of a reference": max(map(len, done.values()), default=0),
                "effects": sum(map(len, done.values())),
                **{name: self._rows(sql)[0][0] for name, sql in FIGURES.items()},
                **broken,
            }
        )


def main() -> None:
    arguments = campaigns.arguments(
        __doc__, events=10_000, references=1000, hosts=3, seed=campaigns.ANY
    )
    start = time.monotonic()
    with ExitStack() as opened:
        at = opened.enter_context(folder())
        server = None
        if arguments.hosts:
            server = opened.enter_context(postgresql.server())
        campaign = Campaign(
            at,
            server,
            arguments.seed,
            events=arguments.events,
            references=arguments.references,
            hosts=arguments.hosts or 1,
        )
        problems = campaign.run()
    took_s = time.monotonic() - start
    print(f"{len(campaign.victims)} daemons, seed {arguments.seed}, {took_s:.0f} s")
    table({**campaign.figures, "broken promises": len(problems)})
    campaigns.end(problems)


if __name__ == "__main__":
    main()
