"""What the disk does to a daemon: full, failing, locked, gone, read-only.

    python -m tests.faults.disk [--lock-s 30]

Under each fault webhooks go on coming. None is acknowledged that is not on the disk, the health
check tells and answers in time, no heartbeat comes two periods after it began, and when the fault
goes the daemon recovers by itself, and its heartbeat too.
"""

import contextlib
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import campaigns
from tests.faults.daemon import UNFINISHED, Victim, folder
from tests.faults.disk_faults import Fault, failing, full, locked, moved, replaced, small_disk
from tests.support.configuration import shell
from tests.support.http_server import Handler, serving
from tests.support.waiting import wait_until

SENDERS = 3
CHECKIN_S = 4.0  # a period is no shorter
HEARTBEAT_PATH = "/hook?token=hush"


@dataclass
class Endured:
    """How a daemon fared under a fault."""

    answers: Counter[int] = field(default_factory=Counter)  # 0: none
    health: Counter[int] = field(default_factory=Counter)
    slowest_health_s: float = 0.0
    recovered_after_s: float = 0.0
    accepted: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"answers {dict(self.answers)}, healthz {dict(self.health)}, at most"
            f" {self.slowest_health_s:.2f} s; recovered after {self.recovered_after_s:.2f} s"
        )


def endure(victim: Victim, beats: list[float], fault: Fault, seconds: float) -> Endured:
    """Send webhooks before, under and after `fault`, and return how it went. Under it means
    `seconds` long, and until the first refusal."""
    endured = Endured()
    numbers = itertools.count()
    _send(victim, endured, next(numbers))
    endured.answers.clear()
    stopping = threading.Event()
    threads = [
        threading.Thread(target=_keep_sending, args=(victim, endured, numbers, stopping))
        for _ in range(SENDERS)
    ]
    threads.append(threading.Thread(target=_keep_asking, args=(victim, endured, stopping)))
    pid = victim.process.pid
    began = time.monotonic()
    with fault(victim):
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        wait_until(lambda: endured.answers[503] and endured.health[503])
        stopping.set()
        late = [at - began for at in beats if at - began > 2 * CHECKIN_S]
    endured.problems += [f"a heartbeat {late_s:.1f} s after it began" for late_s in late]
    start = time.monotonic()
    for thread in threads:
        thread.join()
    wait_until(lambda: victim.healthz()[0] == 200)
    endured.recovered_after_s = time.monotonic() - start
    _send(victim, endured, next(numbers))
    if f"{next(numbers) - 1:06}" not in endured.accepted:
        endured.problems.append("it did not recover")
    if victim.process.poll() is not None or victim.process.pid != pid:
        endured.problems.append("it did not survive")
    _judge(victim, endured)
    return endured


def _judge(victim: Victim, endured: Endured) -> None:
    stored = dict(victim.rows("SELECT token, id FROM event"))
    endured.problems += [
        f"acknowledged as event {event}, not stored: {token}"
        for token, event in endured.accepted.items()
        if stored.get(token) != event
    ]
    if unexpected := set(endured.answers) - {0, 200, 503}:
        endured.problems.append(f"answers {unexpected}")
    wait_until(lambda: not victim.rows(UNFINISHED)[0][0])
    endured.problems += victim.complaints()[:3]


def _send(victim: Victim, endured: Endured, number: int) -> None:
    token = f"{number:06}"
    answer = victim.try_to_send(b'{"reference": "%06d"}' % number + b" " * 2000, token=token)
    endured.answers[answer.status if answer else 0] += 1
    if answer and answer.status == 200:
        endured.accepted[token] = answer.json["event"]
    if answer and answer.status == 503 and not answer.headers.get("Retry-After"):
        endured.problems.append("503 without Retry-After")


def _keep_sending(
    victim: Victim, endured: Endured, numbers: Iterator[int], stopping: threading.Event
) -> None:
    while not stopping.wait(0.02):
        _send(victim, endured, next(numbers))


def _keep_asking(victim: Victim, endured: Endured, stopping: threading.Event) -> None:
    while not stopping.wait(0.1):
        status, seconds = victim.healthz()
        endured.health[status] += 1
        endured.slowest_health_s = max(endured.slowest_health_s, seconds)


FAULTS: dict[str, tuple[Fault, float]] = {
    "EIO on fsync": (failing("fdatasync:error=EIO", "fsync:error=EIO"), 1),
    "ENOSPC on write": (failing("pwrite64:error=ENOSPC"), 1),
    "EIO on write": (failing("pwrite64:error=EIO"), 1),
    "EROFS on write": (failing("pwrite64:error=EROFS"), 1),
    "moved away": (moved, 0.5),
    "replaced": (replaced, 0.5),
}


@contextlib.contextmanager
def beating(at: Path, **changes: Any) -> Iterator[tuple[Victim, list[float]]]:
    """Run a daemon with a dead man's switch; give it, and when its heartbeats came."""
    beats: list[float] = []

    def answer(handler: Handler) -> None:
        if handler.path == HEARTBEAT_PATH:
            beats.append(time.monotonic())
        handler.reply()

    with serving(answer) as service:
        changes["checkin"] = {"url": service.url, "every": f"{CHECKIN_S:g}s"}
        with Victim(at, actions=[_ACTION], **changes) as victim:
            yield victim, beats


def on(at: Path, fault: Fault, seconds: float) -> Endured:
    """Make a fault under a running daemon."""
    with beating(at) as (victim, beats):
        victim.start()
        return endure(victim, beats, fault, seconds)


def on_full_disk(disk: Path) -> Endured:
    """Fill the disk under a running daemon."""
    with beating(disk.parent, database=f"sqlite:///{disk}/premblyd.db") as (victim, beats):
        victim.place = disk / "premblyd.db"
        victim.start()
        return endure(victim, beats, full, 1)


def start_on_full_disk(disk: Path) -> tuple[int, str]:
    """Start on a disk without room for a database; return exit status and standard error."""
    with Victim(disk.parent, database=f"sqlite:///{disk}/premblyd.db") as victim:
        victim.place = disk / "premblyd.db"
        with full(victim):
            return victim.fail_to_start()


def on_removed_file(at: Path) -> list[str]:
    """Remove the database for good under a running daemon; return what is wrong then."""
    problems = []
    with Victim(at) as victim:
        victim.start()
        if victim.send(b"{}").status != 200:
            problems.append("it takes nothing")
        for path in at.glob("premblyd.db*"):
            path.unlink()
        answers = {victim.send(b"{}").status for _ in range(5)}
        if answers != {503} or victim.healthz()[0] != 503:
            problems.append(f"answers {answers} without a database")
        if victim.database.exists():
            problems.append("it made a new and empty database quietly")
        if victim.stop() != 0:
            problems.append("it does not stop")
        # Only now: a thread writes the log, and a stop waits for it.
        if "put it back, or restart" not in victim.log_text():
            problems.append("the log does not say what to do")
        victim.start()
        if victim.send(b"{}").status != 200:
            problems.append("a restart does not help")
        problems += victim.complaints()[:3]
    return problems


_ACTION = shell("true", "true", retry={"attempts": 50, "first_delay": "50ms", "max_delay": "1s"})


def main() -> None:
    arguments = campaigns.arguments(__doc__, lock_s=30.0)
    problems = []
    print(f"as {'root' if os.geteuid() == 0 else 'a user'}")
    faults = FAULTS | {f"locked for {arguments.lock_s:g} s": (locked, arguments.lock_s)}
    for name, (fault, seconds) in faults.items():
        with folder() as at:
            endured = on(at, fault, seconds)
        print(f"{name}: {endured}", flush=True)
        problems += [f"{name}: {problem}" for problem in endured.problems]
    with small_disk() as disk:
        endured = on_full_disk(disk)
    print(f"disk full: {endured}")
    problems += [f"disk full: {problem}" for problem in endured.problems]
    campaigns.end(problems)


if __name__ == "__main__":
    main()
