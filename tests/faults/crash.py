"""The crash campaign: kill -9 at random moments, again and again, under load.

    python -m tests.faults.crash --cycles 1000 [--seed N]

Clients send signed webhooks and repeat some, several of each verification, some pending; a stand-in
for Prembly is asked for those, and fails now and then. Shell, worker and http hooks run, of actions
with `once` and `order` too, and write down what they do outside the database. After every restart
and at the end the promises are checked.
"""

import json
import random
import threading
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from premblyd.ground.databases import DatabaseAddress
from tests.faults import campaigns, promises
from tests.faults.daemon import Victim, folder
from tests.faults.worker import worker
from tests.support import prembly_api
from tests.support.configuration import shell
from tests.support.database import by_hand, rows
from tests.support.requests import Answer
from tests.support.waiting import wait_until

CLIENTS = 4
OF_VERIFICATION = 8  # webhooks
# Few attempts, so that some deliveries end dead: a kill spends one too.
RETRY = {"attempts": 3, "first_delay": "20ms", "factor": 1.5, "max_delay": "300ms"}
# So many that none does.
LASTING = RETRY | {"attempts": 900}
# Short lines and O_APPEND: each is written whole or not at all. Every ninth run fails.
SCRIPT = """
echo "{action} $PREMBLY_DELIVERY $PREMBLY_ATTEMPT $PREMBLY_WORKER" >> {at}/runs
sleep {takes}$((PREMBLY_DELIVERY % 4))
test $(( (PREMBLY_DELIVERY + PREMBLY_ATTEMPT) % 9 )) -ne 0 || exit 1
"""
WITH_EFFECT = f"""{SCRIPT}
echo "{{action}} $PREMBLY_DELIVERY $PREMBLY_ATTEMPT $PREMBLY_EVENT" >> {{at}}/effects
sleep 0.03
"""
STATUSES = {"00": "VERIFIED", "01": "NOT-VERIFIED", "02": "PENDING"}
API_FAULTS = (prembly_api.status(500), prembly_api.garbage, prembly_api.cut)
OPEN = "SELECT count(*) FROM awaited WHERE state <> 'settled'"
ASK_NOW = "UPDATE awaited SET due_at_ms = 1 WHERE due_at_ms IS NOT NULL"


class Receiver(ThreadingHTTPServer):
    """Where the http hook posts to: counts each request, and fails every eighth."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: Counter[str] = Counter()
        self.lock = threading.Lock()

    def handle_error(self, *_: object) -> None:
        """The daemon dies while it posts: that is the campaign."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.got[self.headers["webhook-id"]] += 1
            fails = sum(self.server.got.values()) % 8 == 0
        self.send_response(503 if fails else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@dataclass
class Book:
    """What clients were promised: the event of each token, and how often it was acknowledged."""

    events: dict[str, int] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, token: str, status: int, content: dict[str, Any]) -> None:
        with self.lock:
            self.answers[status] += 1
            if status != 200:
                return
            known = self.events.setdefault(token, content["event"])
            if known != content["event"]:
                self.problems.append(f"{token} was event {known}, then {content['event']}")


class Target(Protocol):
    """Where webhooks are sent."""

    def send(self, body: bytes, **more: str) -> Answer:
        """Send a signed webhook. Raise OSError or HTTPException when no answer comes."""
        ...


class Client(threading.Thread):
    """Sends webhooks until told to stop, and repeats each that got no answer, and some others."""

    def __init__(
        self,
        target: Target,
        book: Book,
        number: int,
        rng: random.Random,
        pause_s: tuple[float, float] = (0.01, 0.06),
    ) -> None:
        super().__init__(daemon=True)
        self._target, self._book, self._number, self._rng = target, book, number, rng
        self._pause_s = pause_s
        self.stopping = threading.Event()

    def run(self) -> None:
        sent = 0
        while not self.stopping.wait(self._rng.uniform(*self._pause_s)):
            sent += 1
            token = f"{self._number}-{sent}"
            while not self._send(token) and not self.stopping.wait(0.02):
                pass
            self._send_more(token, f"{self._number}-{self._rng.randint(1, sent)}")

    def _send_more(self, token: str, earlier: str) -> None:
        if self._rng.random() < 0.25:
            self._send(token)
        if self._rng.random() < 0.1:
            self._send(earlier)

    def _body(self, token: str) -> bytes:
        return body_of(token)

    def _send(self, token: str) -> bool:
        try:
            answer = self._target.send(self._body(token), token=token)
            self._book.note(token, answer.status, answer.json)
        except (OSError, HTTPException, ValueError):  # killed under us
            return False
        return answer.status == 200


def reference_of(token: str) -> str:
    """Return the verification: a few have one webhook, which is pending."""
    if zlib.crc32(token.encode()) % 16 == 0:
        return f"ref-{token}"
    client, _, number = token.partition("-")
    return f"ref-{client}-{int(number) // OF_VERIFICATION}"


def body_of(token: str) -> bytes:
    """Return the one body that is sent with `token`: every eighth is pending."""
    random_ = zlib.crc32(token.encode())
    code = "02" if random_ % 8 == 0 else f"0{random_ % 2}"
    verification = {"status": STATUSES[code], "reference": reference_of(token)}
    return json.dumps(
        {"response_code": code, "verification": verification, "token": token}
    ).encode()


class Campaign:
    """Cycles of load, kill, restart and check."""

    takes_s = "0.0"  # a hook, and a digit more

    def __init__(
        self,
        at: Path,
        seed: int,
        longest_s: float = 0.5,
        place: DatabaseAddress | None = None,
        clients: int = CLIENTS,
    ) -> None:
        self.rng = random.Random(seed)
        self.longest_s = longest_s  # of a daemon's life
        self.book = Book()
        self.figures: Counter[str] = Counter()
        self.at = at
        for name in ("runs", "effects"):
            (at / name).touch()
        self._opened = ExitStack()
        self._api = self._opened.enter_context(prembly_api.prembly_api())
        self.receiver = Receiver()
        self.victims = self.make_victims(place)
        self.victim = self.victims[0]
        self._clients = clients
        self._checked_event = 0
        self._is_patient = False

    def make_victims(self, place: DatabaseAddress | None) -> Sequence[Victim]:
        return [Victim(self.at, place=place, **self.settings())]

    def settings(self) -> dict[str, Any]:
        def script(action: str, template: str = SCRIPT) -> str:
            return template.format(action=action, at=self.at, takes=self.takes_s)

        url = f"http://127.0.0.1:{self.receiver.server_port}/"
        own = {"url": self._api.url, "api_key": prembly_api.KEY, "rate": 300, "timeout": "2s"}
        lasting: dict[str, Any] = {"retry": LASTING, "concurrency": 8}
        once, line = (script(each, WITH_EFFECT) for each in (promises.ONCE, promises.LINE))
        return {
            "prembly": own,
            "pending": {"ask": ["20ms"], "give_up": "1h"},
            "actions": [
                shell("count", script("count"), retry=RETRY, concurrency=8),
                worker("work", script("work"), "00", "01", retry=RETRY, concurrency=8),
                {"name": "post", "response_codes": ["00"], "http": {"url": url}, "retry": RETRY},
                shell(promises.ONCE, once, "00", once="reference", **lasting),
                worker(promises.LINE, line, "01", "02", order="reference", **lasting),
            ],
        }

    def run(self, cycles: int, *, say_every: int = 0) -> list[str]:
        """Run the campaign and return every broken promise."""
        with self._opened as opened:
            threading.Thread(target=self.receiver.serve_forever, daemon=True).start()
            opened.callback(self.receiver.server_close)
            opened.callback(self.receiver.shutdown)
            for victim in self.victims:
                opened.enter_context(victim).restart()
            target = self.target(opened)
            clients = [
                _Sender(self._api, target, self.book, number, random.Random(self.rng.random()))
                for number in range(self._clients)
            ]
            with campaigns.sending(clients):
                for _ in campaigns.count_cycles(
                    cycles, say_every, lambda: f"{len(self.book.events)} events"
                ):
                    if self.rng.random() < 0.3:
                        self._api.fail(self.rng.choice(API_FAULTS), times=self.rng.randint(1, 3))
                    self.harm()
                    self._check()
            self._settle()
            self.victim.finish()
            self._check_end()
            for victim in self.victims:
                self.book.problems += victim.end()
        return self.book.problems

    def target(self, opened: ExitStack) -> Target:
        del opened
        return self.victim

    def harm(self) -> None:
        """Kill it, every other time after it has received: on a busy machine it else never does."""
        self._is_patient = not self._is_patient
        if self._is_patient:
            enough = len(self.book.events) + 2 * self._clients
            wait_until(lambda: len(self.book.events) >= enough)
        self.figures["kills"] += self.victim.crash(self.rng, self.longest_s)

    def _settle(self) -> None:
        """Have Prembly asked again for what it did not answer, which it else is in 5 minutes."""
        self._api.mend()
        for victim in self.victims:
            victim.kill()
        by_hand(self.victim.place, ASK_NOW)
        for victim in self.victims:
            victim.restart()
        wait_until(lambda: rows(self.victim.place, OPEN) == [(0,)])

    def _check(self) -> None:
        """Each 200 since the last check has its event once, and the file is sound."""
        with self.book.lock:
            promised = [one for one in self.book.events.items() if one[1] > self._checked_event]
        self.book.problems += promises.kept(self.victim.place, promised, body_of)
        self._checked_event = max((event for _, event in promised), default=self._checked_event)
        if self.book.problems:
            raise AssertionError("\n".join(self.book.problems[:20]))

    def _check_end(self) -> None:
        place = self.victim.place
        runs = Counter(run.action for run in promises.runs_in(self.at / "runs"))
        broken = promises.broken(place, self.at, self.receiver.got)
        self.book.problems += promises.kept(place, list(self.book.events.items()), body_of)
        self.book.problems += [f"{name}: {number}" for name, number in broken.items() if number]
        self.figures.update(
            {
                "events acknowledged": len(self.book.events),
                "answers 200": self.book.answers[200],
                "answers 503": self.book.answers[503],
                **{f"runs of {action}": count for action, count in runs.items()},
                "posts counted by their receiver": sum(self.receiver.got.values()),
                "questions to Prembly": self._api.asked(),
                **promises.figures(place),
                **broken,
            }
        )


class _Sender(Client):
    """Sends webhooks of verifications that Prembly knows."""

    def __init__(self, api: prembly_api.PremblyApi, *more: Any) -> None:
        super().__init__(*more)
        self._api = api

    def _body(self, token: str) -> bytes:
        self._api.know(reference_of(token))
        return body_of(token)


def main() -> None:
    campaigns.main(
        __doc__,
        lambda opened, asked: Campaign(opened.enter_context(folder()), asked.seed),
        cycles=1000,
        say_every=50,
    )


if __name__ == "__main__":
    main()
