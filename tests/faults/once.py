"""The campaign of `once`: webhooks that are sent again and again, through kill -9.

    python -m tests.faults.once --cycles 50 [--seed N]

Clients send a few verifications in many bodies, each body several times with new tokens. The hooks
of actions with `once`, a shell and two workers, write down when they begin, and their effects,
outside the database. After every restart and at the end it is checked what was stored, what ran,
and what was skipped for it.
"""

import json
import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from premblyd.prembly.payload import Outcome
from premblyd.queue.oncekeys import once_key
from premblyd.verifications.digests import Digests
from tests.faults import campaigns
from tests.faults.daemon import Victim, folder
from tests.faults.worker import worker
from tests.support.configuration import shell

CLIENTS = 6
REFERENCES = 3  # that are sent at a time, each with two outcomes
BODIES = 12  # of each
# So many attempts that no delivery dies of the kills: then one of each key must succeed.
RETRY = {"attempts": 200, "first_delay": "20ms", "factor": 1.5, "max_delay": "300ms"}
STATUSES = {Outcome.VERIFIED: "VERIFIED", Outcome.PENDING: "PENDING"}
OF_KEY = """
SELECT action, reference, outcome, sum(state = 'succeeded'), sum(state = 'skipped'), count(*)
FROM delivery JOIN event ON event.id = event_id GROUP BY 1, 2, 3
"""
WRONG_POINTERS = """
SELECT count(*) FROM delivery JOIN event ON event.id = delivery.event_id
WHERE (delivery.state = 'skipped') <> (ran_instead_id IS NOT NULL)
   OR delivery.state = 'skipped' AND NOT EXISTS (
      SELECT 1 FROM delivery AS other JOIN event AS its ON its.id = other.event_id
      WHERE other.id = delivery.ran_instead_id AND other.state = 'succeeded'
        AND other.action = delivery.action AND its.reference = event.reference
        AND its.outcome = event.outcome)
"""
INTERRUPTED = """
SELECT action, reference, event.outcome, count(*) FROM attempt
JOIN delivery ON delivery.id = delivery_id JOIN event ON event.id = event_id
WHERE attempt.outcome = 'interrupted' GROUP BY 1, 2, 3
"""
SUCCEEDED = "SELECT delivery_id, number FROM attempt WHERE outcome = 'succeeded'"
BROKEN = {
    "bodies stored twice": "SELECT count(*) FROM (SELECT 1 FROM event GROUP BY body"
    " HAVING count(*) > 1)",
    "event numbers left out": "SELECT max(id) - count(*) FROM event",
    "skipped ones with an attempt that succeeded": "SELECT count(*) FROM delivery WHERE"
    " state = 'skipped' AND EXISTS (SELECT 1 FROM attempt WHERE delivery_id = delivery.id"
    " AND outcome = 'succeeded')",
    "wrong pointers": WRONG_POINTERS,
    "attempts left open": "SELECT count(*) FROM attempt WHERE outcome IS NULL",
}


@dataclass
class Book:
    """The event of each body that was acknowledged, and what was wrong with an answer."""

    events: dict[bytes, int] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, body: bytes, event: int, *, is_duplicate: bool) -> None:
        with self.lock:
            self.answers["duplicate" if is_duplicate else "new"] += 1
            if self.events.setdefault(body, event) != event:
                self.problems.append(f"{body!r} is event {event} and {self.events[body]}")


class Client(threading.Thread):
    """Sends one of the newest verifications in one of its bodies, with a new token, and so on."""

    def __init__(self, campaign: "Campaign", number: int) -> None:
        super().__init__(daemon=True)
        self._campaign, self._number = campaign, number
        self.stopping = threading.Event()
        self._rng = random.Random(campaign.rng.random())

    def run(self) -> None:
        campaign, rng = self._campaign, self._rng
        sent = 0
        while not self.stopping.wait(rng.uniform(0.002, 0.02)):
            sent += 1
            reference = f"r-{campaign.batch}-{rng.randrange(REFERENCES)}"
            body = body_of(reference, rng.choice(list(STATUSES)), rng.randrange(BODIES))
            try:
                answer = campaign.victim.send(body, token=f"{self._number}-{sent}")
                if answer.status == 200:
                    event, is_duplicate = answer.json["event"], answer.json["duplicate"]
                    campaign.book.note(body, event, is_duplicate=is_duplicate)
            except (OSError, HTTPException, ValueError):  # killed under us
                continue


def body_of(reference: str, outcome: Outcome, number: int) -> bytes:
    verification = {"status": STATUSES[outcome], "reference": reference}
    return json.dumps({"response_code": "00", "verification": verification, "n": number}).encode()


class Campaign:
    """Cycles of load, kill, restart and check."""

    def __init__(self, at: Path, seed: int, longest_s: float = 0.6) -> None:
        self.rng = random.Random(seed)
        self.longest_s = longest_s  # of a daemon's life
        self.book = Book()
        self.batch = 0
        self.runs, self.effects = at / "runs", at / "effects"
        for path in (self.runs, self.effects):
            path.touch()
        # Short lines and O_APPEND: each is written whole or not at all. Every seventh run fails.
        line = '"%s $PREMBLY_ONCE_KEY $PREMBLY_DELIVERY $PREMBLY_ATTEMPT"'
        script = (
            f"echo {line} >> {self.runs}; sleep 0.03;"
            " test $(( (PREMBLY_DELIVERY + PREMBLY_ATTEMPT) %% 7 )) -ne 0 || exit 1;"
            f" echo {line} >> {self.effects}; sleep 0.03"
        )
        more: dict[str, Any] = {"once": "reference", "retry": RETRY}
        self.victim = Victim(
            at,
            actions=[
                shell("activate", script % ("activate", "activate"), concurrency=8, **more),
                worker("line", script % ("line", "line"), concurrency=8, **more),
            ],
        )
        self.figures: Counter[str] = Counter()

    def run(self, cycles: int, *, say_every: int = 0) -> list[str]:
        """Run the campaign and return every broken promise."""
        with self.victim:
            self.victim.restart()
            with campaigns.sending([Client(self, number) for number in range(CLIENTS)]):
                counted = campaigns.count_cycles(
                    cycles, say_every, lambda: f"{len(self.book.events)} events"
                )
                for self.batch in counted:
                    self.figures["kills"] += self.victim.crash(self.rng, self.longest_s)
                    self._check_stored()
            self.victim.finish()
            self._check_end()
            self.book.problems += self.victim.end()
        return self.book.problems

    def _check_stored(self) -> None:
        """What was acknowledged is there, and of no key has more than one succeeded."""
        with self.book.lock:
            promised = dict(self.book.events)
        stored = dict(self.victim.rows("SELECT body, id FROM event"))
        self.book.problems += [
            f"{body!r}: acknowledged as {event}, found {stored.get(body)}"
            for body, event in promised.items()
            if stored.get(body) != event
        ]
        self.book.problems += [
            f"{action} {reference} {outcome}: {succeeded} succeeded"
            for action, reference, outcome, succeeded, *_ in self.victim.rows(OF_KEY)
            if succeeded > 1
        ]
        if self.book.problems:
            raise AssertionError("\n".join(self.book.problems[:20]))

    def _check_end(self) -> None:
        runs, effects = _lines(self.runs), _lines(self.effects)
        keys = self.victim.rows(OF_KEY)
        [[digest_key]] = self.victim.rows("SELECT digest_key FROM record")
        digests = Digests(digest_key)
        interrupted = {
            (action, once_key(digests, reference, Outcome(outcome))): count
            for action, reference, outcome, count in self.victim.rows(INTERRUPTED)
        }
        names = {
            (action, once_key(digests, reference, Outcome(outcome)))
            for action, reference, outcome, *_ in keys
        }
        effects_of = Counter((action, key) for action, key, *_ in effects)
        attempts = set(self.victim.rows("SELECT delivery_id, number FROM attempt"))
        started = {(int(delivery), int(attempt)) for *_, delivery, attempt in runs}
        done = {(int(delivery), int(attempt)) for *_, delivery, attempt in effects}
        broken = {name: self.victim.rows(sql)[0][0] for name, sql in BROKEN.items()} | {
            "keys without exactly one success": sum(row[3] != 1 for row in keys),
            "deliveries neither succeeded nor skipped": sum(
                row[5] - row[4] - row[3] for row in keys
            ),
            "runs without an attempt row": len(started - attempts),
            "runs under a key of nothing": len({(action, key) for action, key, *_ in runs} - names),
            "successes without an effect": len(set(self.victim.rows(SUCCEEDED)) - done),
            "keys with more effects than their crashes explain": sum(
                count > 1 + interrupted.get(key, 0) for key, count in effects_of.items()
            ),
        }
        self.book.problems += [f"{name}: {number}" for name, number in broken.items() if number]
        self.figures.update(
            {
                "webhooks answered 200": self.book.answers.total(),
                "events": len(self.book.events),
                "actions, references and outcomes": len(keys),
                "deliveries skipped": sum(row[4] for row in keys),
                "runs of the hooks": len(runs),
                "attempts interrupted": sum(interrupted.values()),
                "effects": len(effects),
                "effects once more, after a crash before the record": len(effects)
                - len(effects_of),
                **broken,
            }
        )


def _lines(path: Path) -> Sequence[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


def main() -> None:
    campaigns.main(
        __doc__,
        lambda opened, seed: Campaign(opened.enter_context(folder()), seed),
        cycles=50,
        say_every=10,
    )


if __name__ == "__main__":
    main()
