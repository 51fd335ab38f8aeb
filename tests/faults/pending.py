"""The campaign of what is pending: kill -9 while Prembly is asked and its answers are stored; and a
long stop after which many are due at once.

    python -m tests.faults.pending --cycles 100 [--seed N]
    python -m tests.faults.pending --due 10000 --rate 500

Clients send pending webhooks, and now and then the one that settles it. The stand-in for Prembly's
API says pending for a while, fails now and then, and is asked by the daemon that is killed.
"""

import json
import random
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from premblyd.times import DAY_MS
from tests.faults import campaigns
from tests.faults.daemon import UNFINISHED, Victim, folder, table
from tests.support import prembly_api
from tests.support.configuration import shell
from tests.support.database import rows
from tests.support.prembly_api import PremblyApi
from tests.support.waiting import wait_until

OPEN = "SELECT count(*) FROM awaited WHERE state <> 'settled'"
BROKEN = {
    "verifications awaited twice": "SELECT count(*) FROM"
    " (SELECT 1 FROM awaited GROUP BY reference HAVING count(*) > 1)",
    "answers stored twice": "SELECT count(*) FROM (SELECT 1 FROM event"
    " WHERE type = 'prembly.status' GROUP BY reference HAVING count(*) > 1)",
    "answers without their delivery": "SELECT count(*) FROM event WHERE type = 'prembly.status'"
    " AND (SELECT count(*) FROM delivery WHERE event_id = event.id) <> 1",
    "answers whose hook did not succeed": "SELECT count(*) FROM delivery JOIN event"
    " ON event.id = event_id WHERE type = 'prembly.status' AND state <> 'succeeded'",
    "pending events that nobody awaited": "SELECT count(*) FROM event WHERE outcome = 'pending'"
    " AND NOT EXISTS (SELECT 1 FROM awaited WHERE awaited.reference = event.reference)"
    " AND NOT EXISTS (SELECT 1 FROM event AS other WHERE other.reference = event.reference"
    " AND other.outcome = 'verified')",
    "settled by an event that does not settle": "SELECT count(*) FROM awaited"
    " LEFT JOIN event ON event.id = settled_by_id"
    " WHERE state = 'settled' AND outcome IS NOT 'verified'",
    "questions that settled without their event": "SELECT count(*) FROM inquiry"
    " WHERE result = 'settled' AND stored_event_id IS NULL AND NOT EXISTS"
    " (SELECT 1 FROM event WHERE reference = inquiry.reference AND outcome = 'verified')",
}
FIGURES = {
    "pending events": "SELECT count(*) FROM event WHERE outcome = 'pending'",
    "answers stored": "SELECT count(*) FROM event WHERE type = 'prembly.status'",
    "settled by a webhook": "SELECT count(*) FROM awaited JOIN event ON event.id = settled_by_id"
    " WHERE type <> 'prembly.status'",
    "questions on record": "SELECT count(*) FROM inquiry",
}


def body(reference: str, status: str) -> bytes:
    code = "00" if status == "VERIFIED" else "02"
    verification = {"status": status, "reference": reference}
    return json.dumps({"response_code": code, "verification": verification}).encode()


def settings(api: PremblyApi, ask: str, rate: float) -> dict[str, Any]:
    return {
        "prembly": {"url": api.url, "api_key": prembly_api.KEY, "rate": rate, "timeout": "2s"},
        "pending": {"ask": [ask], "give_up": "1h"},
        "actions": [
            shell("count", "true", types=["prembly.status"], retry={"attempts": 50}, concurrency=2)
        ],
    }


class Client(threading.Thread):
    """Sends pending webhooks, until told to stop, and settles some by a webhook."""

    def __init__(self, victim: Victim, api: PremblyApi, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self._victim, self._api, self._rng = victim, api, rng
        self.stopping = threading.Event()
        self.sent: list[str] = []

    def run(self) -> None:
        while not self.stopping.wait(self._rng.uniform(0.002, 0.02)):
            reference = f"ref-{len(self.sent)}"
            known = self._api.know(reference, status="PENDING", code="02")
            self._send(body(reference, "PENDING"))
            self.sent.append(reference)
            if self._rng.random() < 0.3:
                self._send(body(reference, "VERIFIED"))
            settled = self._api.verifications[self._rng.choice(self.sent)]
            for verification in (settled, known):
                if verification is settled or self._rng.random() < 0.5:
                    verification.status, verification.code = "VERIFIED", "00"

    def _send(self, content: bytes) -> None:
        """Send a webhook until it is acknowledged, as Prembly might, or the campaign stops."""
        while not self.stopping.is_set():
            answer = self._victim.try_to_send(content)
            if answer is not None and answer.status == 200:
                return
            time.sleep(0.02)


class Campaign:
    """Cycles of load, kill and restart."""

    def __init__(self, at: Path, api: PremblyApi, seed: int, longest_s: float = 0.6) -> None:
        self._rng = random.Random(seed)
        self._api = api
        self._longest_s = longest_s
        self.victim = Victim(at, **settings(api, "20ms", 300))
        self.figures: Counter[str] = Counter()

    def run(self, cycles: int) -> list[str]:
        """Run the campaign and return every broken promise."""
        client = Client(self.victim, self._api, random.Random(self._rng.random()))
        with self.victim:
            self.victim.restart()
            with campaigns.sending([client]):
                for _ in range(cycles):
                    time.sleep(self._rng.uniform(0, self._longest_s))
                    if self._rng.random() < 0.3:
                        self._api.fail(self._rng.choice(FAULTS), times=self._rng.randint(1, 3))
                    self.victim.end_now()
                    self.victim.restart()
                    self.figures["kills"] += 1
            self._settle_all()
            problems = self.victim.end()
        path = self.victim.database
        problems += [f"{name}: {n}" for name, n in _counts(path, BROKEN).items() if n]
        if (sound := rows(path, "PRAGMA integrity_check")) != [("ok",)]:
            problems.append(f"integrity_check: {sound}")
        self.figures.update(_counts(path, FIGURES))
        self.figures["questions to Prembly"] = self._api.asked()
        return problems

    def _settle_all(self) -> None:
        """Let Prembly know everything, and wait until all is settled and has run."""
        self._api.mend()
        for verification in self._api.verifications.values():
            verification.status, verification.code = "VERIFIED", "00"
        # A question without an answer is asked again in 5 minutes, which nobody waits for here.
        self.victim.kill()
        with closing(sqlite3.connect(self.victim.database)) as database, database:
            database.execute("UPDATE awaited SET due_at_ms = 1 WHERE due_at_ms IS NOT NULL")
        self.victim.restart()
        wait_until(lambda: self.victim.rows(OPEN) == [(0,)])
        wait_until(lambda: self.victim.rows(UNFINISHED) == [(0,)])


FAULTS = (prembly_api.status(500), prembly_api.garbage, prembly_api.cut, prembly_api.hang)


def many_due(at: Path, api: PremblyApi, count: int, rate: float) -> tuple[dict[str, Any], int]:
    """Let a daemon start on `count` pending events that fell due while it was stopped for a day.
    Return figures, and how often a promise was broken."""
    victim = Victim(at, **settings(api, "1h", rate))
    with victim:
        victim.restart()
        for number in range(count):
            api.know(f"ref-{number}")
            answer = victim.try_to_send(body(f"ref-{number}", "PENDING"))
            assert answer is not None
            assert answer.status == 200
        assert victim.stop() == 0
        with closing(sqlite3.connect(victim.database)) as database, database:
            database.execute(
                "UPDATE awaited SET due_at_ms = due_at_ms - ?, created_at_ms = created_at_ms - ?",
                (DAY_MS, DAY_MS),
            )
        victim.configure(
            **settings(api, "1h", rate) | {"pending": {"ask": ["1h"], "give_up": "3d"}},
            listen=victim.address,
        )
        start = time.monotonic()
        victim.restart()
        idle_kib = most_kib = victim.memory_kib()
        while victim.rows(OPEN) != [(0,)]:
            most_kib = max(most_kib, victim.memory_kib())
            time.sleep(0.1)
        took_s = time.monotonic() - start
        wait_until(lambda: victim.rows(UNFINISHED) == [(0,)])
        assert victim.stop() == 0
        complaints = len(victim.complaints())
    asked = api.asked_by_id()
    broken = complaints + sum(_counts(victim.database, BROKEN).values())
    broken += sum(times != 1 for times in asked.values()) + (len(asked) != count)
    return {
        "due at once": count,
        "asked for, each once": len(asked),
        "seconds": round(took_s, 1),
        "questions a second, at most": api.peak_rate(),
        "rate": rate,
        "memory idle, MB": idle_kib // 1024,
        "memory at most, MB": most_kib // 1024,
    }, broken + (api.peak_rate() > rate * 1.1 + 1)


def _counts(path: Path, queries: dict[str, str]) -> dict[str, int]:
    return {name: rows(path, sql)[0][0] for name, sql in queries.items()}


def main() -> None:
    arguments = campaigns.arguments(__doc__, cycles=100, seed=campaigns.ANY, due=0, rate=500.0)
    start = time.monotonic()
    with folder() as at, prembly_api.prembly_api() as api:
        if arguments.due:
            figures, broken = many_due(at, api, arguments.due, arguments.rate)
            table({**figures, "broken promises": broken})
            raise SystemExit(1 if broken else 0)
        campaign = Campaign(at, api, arguments.seed)
        problems = campaign.run(arguments.cycles)
    seconds = time.monotonic() - start
    print(f"{arguments.cycles} cycles, seed {arguments.seed}, {seconds:.0f} s")
    table({**campaign.figures, "broken promises": len(problems)})
    campaigns.end(problems)


if __name__ == "__main__":
    main()
