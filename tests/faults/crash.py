"""The crash campaign: kill -9 at random moments, again and again, under load.

    python -m tests.faults.crash --cycles 1000 [--seed N]

Clients send signed webhooks and repeat some; shell, worker and http hooks run and count themselves
outside the database. After every restart and at the end the promises are checked.
"""

import json
import random
import threading
import zlib
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from premblyd.databases import DatabaseAddress
from tests.faults import campaigns, promises
from tests.faults.daemon import Victim, folder
from tests.faults.worker import worker
from tests.support.configuration import shell
from tests.support.requests import Answer

CLIENTS = 6
RETRY = {"attempts": 3, "first_delay": "20ms", "factor": 1.5, "max_delay": "300ms"}


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
        pause_s: tuple[float, float] = (0.005, 0.03),
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


def body_of(token: str) -> bytes:
    """Return the one body that is sent with `token`."""
    code = ("00", "01")[zlib.crc32(token.encode()) % 2]
    verification = {"status": "VERIFIED", "reference": f"ref-{token}"}
    return json.dumps({"response_code": code, "verification": verification}).encode()


class Campaign:
    """Cycles of load, kill, restart and check."""

    def __init__(
        self, at: Path, seed: int, longest_s: float = 0.5, place: DatabaseAddress | None = None
    ) -> None:
        self.rng = random.Random(seed)
        self.longest_s = longest_s  # of a daemon's life
        self.book = Book()
        self.runs = at / "runs"
        self.runs.touch()
        self.receiver = Receiver()
        url = f"http://127.0.0.1:{self.receiver.server_port}/"
        # Few attempts, so that some deliveries end dead: a kill spends one too.
        # One short line and O_APPEND: written whole or not at all. Every ninth run fails.
        script = (
            f'echo "%s $PREMBLY_DELIVERY $PREMBLY_ATTEMPT" >> {self.runs};'
            " test $(( (PREMBLY_DELIVERY + PREMBLY_ATTEMPT) %% 9 )) -ne 0"
        )
        self.victim = Victim(
            at,
            place=place,
            actions=[
                shell("count", script % "count", retry=RETRY, concurrency=8),
                worker("work", script % "work", "00", "01", retry=RETRY, concurrency=8),
                {"name": "post", "response_codes": ["00"], "http": {"url": url}, "retry": RETRY},
            ],
        )
        self.figures: Counter[str] = Counter()
        self._checked_event = 0

    def run(self, cycles: int, *, say_every: int = 0) -> list[str]:
        """Run the campaign and return every broken promise."""
        threading.Thread(target=self.receiver.serve_forever, daemon=True).start()
        clients = [
            Client(self.victim, self.book, number, random.Random(self.rng.random()))
            for number in range(CLIENTS)
        ]
        with self.victim:
            self.victim.restart()
            with campaigns.sending(clients):
                for _ in campaigns.count_cycles(
                    cycles, say_every, lambda: f"{len(self.book.events)} events"
                ):
                    self.harm()
                    self._check()
            self.victim.finish()
            self.receiver.shutdown()
            self._check_end()
            self.book.problems += self.victim.end()
        self.receiver.server_close()
        return self.book.problems

    def harm(self) -> None:
        self.figures["kills"] += self.victim.crash(self.rng, self.longest_s)

    def _check(self) -> None:
        """Each 200 since the last check has its event once, and the file is sound."""
        with self.book.lock:
            promised = [
                (token, event)
                for token, event in self.book.events.items()
                if event > self._checked_event
            ]
        self.book.problems += promises.kept(self.victim.place, promised, body_of)
        self._checked_event = max((event for _, event in promised), default=self._checked_event)
        if self.book.problems:
            raise AssertionError("\n".join(self.book.problems[:20]))

    def _check_end(self) -> None:
        runs = promises.runs_in(self.runs)
        counted = Counter(run.action for run in runs)
        broken = promises.broken(self.victim.place, runs, self.receiver.got)
        self.book.problems += promises.kept(
            self.victim.place, list(self.book.events.items()), body_of
        )
        self.book.problems += [f"{name}: {number}" for name, number in broken.items() if number]
        self.figures.update(
            {
                "events acknowledged": len(self.book.events),
                "answers 200": self.book.answers[200],
                "answers 503": self.book.answers[503],
                **{f"runs of {action}": count for action, count in counted.items()},
                "posts counted by their receiver": sum(self.receiver.got.values()),
                **promises.figures(self.victim.place),
                **broken,
            }
        )


def main() -> None:
    campaigns.main(
        __doc__,
        lambda opened, seed: Campaign(opened.enter_context(folder()), seed),
        cycles=1000,
        say_every=50,
    )


if __name__ == "__main__":
    main()
