"""Whether a dead man's switch is silent when the daemon does not work, and never while it does.

    python -m tests.faults.checkin [--load-minutes 60] [--every-s 60]

Under each fault no heartbeat may come later than two periods after it began, and they begin again
when it has gone. Then webhooks come for so long, and no heartbeat may be missing.
"""

import contextlib
import itertools
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import campaigns
from tests.faults.daemon import Victim, folder
from tests.faults.disk_faults import Fault, full, locked, small_disk
from tests.support import postgresql
from tests.support.configuration import shell
from tests.support.http_server import Handler, serving
from tests.support.waiting import wait_until

EVERY_S = 4.0
SENDERS = 4
HEARTBEAT_PATH = "/hook?token=hush"
# Python that the daemon runs first: while the file is there, its dispatcher stands, or its writer
# hangs.
STANDS = """
import asyncio, os, time
from premblyd.engines.writer import Writer
from premblyd.run.dispatcher import Dispatcher
claim, commit = Dispatcher._claim, Writer._commit
async def stands(*arguments):
    while os.path.exists({stands!r}):
        await asyncio.sleep(0.05)
    return await claim(*arguments)
def hangs(*arguments):
    while os.path.exists({hangs!r}):
        time.sleep(0.05)
    return commit(*arguments)
Dispatcher._claim, Writer._commit = stands, hangs
"""


@dataclass
class Service:
    """What a service was told, and when."""

    every_s: float
    told: list[tuple[str, float]] = field(default_factory=list)

    def answer(self, handler: Handler) -> None:
        self.told.append((handler.path, time.monotonic()))
        handler.reply()

    @property
    def beats(self) -> list[float]:
        return [at for path, at in self.told if path == HEARTBEAT_PATH]

    def wait_for_beat(self) -> None:
        """Wait for one that comes from now on."""
        count = len(self.beats)
        wait_until(lambda: len(self.beats) > count)


@contextlib.contextmanager
def checking_in(
    at: Path, every_s: float = EVERY_S, **changes: Any
) -> Iterator[tuple[Victim, Service]]:
    """Run a daemon that checks in with a service."""
    service = Service(every_s)
    with serving(service.answer) as server:
        changes["checkin"] = {"url": server.url, "every": f"{every_s:g}s"}
        actions = [shell("true", "true", retry={"attempts": 50, "first_delay": "50ms"})]
        with Victim(at, actions=actions, **changes) as victim:
            names = {name: str(at / name) for name in ("stands", "hangs")}
            victim.before = STANDS.format(**names)
            if isinstance(victim.place, Path) and (url := changes.get("database")):
                victim.place = Path(url.removeprefix("sqlite:///"))
            victim.start(victim.before)
            yield victim, service


def silent_under(fault: Fault, victim: Victim, service: Service) -> list[str]:
    """Return what is wrong with the heartbeats under `fault` and after it."""
    service.wait_for_beat()
    with fault(victim):
        began = time.monotonic()
        time.sleep(4 * EVERY_S)
        late = [beat - began for beat in service.beats if beat - began > 2 * EVERY_S]
    service.wait_for_beat()
    return [f"a heartbeat {seconds:.1f} s after the fault" for seconds in late]


@contextlib.contextmanager
def stopped(victim: Victim) -> Iterator[None]:
    victim.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        victim.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def killed(victim: Victim) -> Iterator[None]:
    victim.kill()
    yield
    victim.start(victim.before)


def while_there(name: str) -> Fault:
    """Return the fault that lasts while a file is there."""

    @contextlib.contextmanager
    def fault(victim: Victim) -> Iterator[None]:
        file = victim.folder / name
        file.touch()
        try:
            yield
        finally:
            file.unlink()

    return fault


FAULTS: dict[str, Fault] = {
    "SIGSTOP": stopped,
    "SIGKILL": killed,
    "a dispatcher that stands": while_there("stands"),
    "a writer that hangs": while_there("hangs"),
    "a locked database": locked,
}


def on(at: Path, fault: Fault) -> list[str]:
    """Make a fault under a running daemon."""
    with checking_in(at) as (victim, service):
        return silent_under(fault, victim, service)


def on_full_disk(disk: Path) -> list[str]:
    """Fill the disk under a running daemon, to which webhooks come then."""

    @contextlib.contextmanager
    def fault(victim: Victim) -> Iterator[None]:
        with full(victim), sending(victim):
            yield

    with checking_in(disk.parent, database=f"sqlite:///{disk}/premblyd.db") as (victim, service):
        return silent_under(fault, victim, service)


def without_server(at: Path) -> list[str]:
    """Stop the PostgreSQL server under a running daemon."""
    with postgresql.cluster() as server:
        server.start()

        @contextlib.contextmanager
        def gone(_: Victim) -> Iterator[None]:
            server.stop("immediate")
            yield
            server.start()

        place = postgresql.new_database(server)
        with checking_in(at, place=place) as (victim, service):
            return silent_under(gone, victim, service)


@contextlib.contextmanager
def sending(victim: Victim) -> Iterator[None]:
    """Have clients send as fast as they are answered."""
    numbers, stopping = itertools.count(), threading.Event()

    def send() -> None:
        while not stopping.wait(0.01):
            body = b'{"reference": "%06d"}' % next(numbers) + b" " * 2000
            victim.try_to_send(body)

    threads = [threading.Thread(target=send) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def under_load(at: Path, seconds: float, every_s: float = EVERY_S) -> list[str]:
    """Return how many heartbeats were missed while webhooks came for so long."""
    with checking_in(at, every_s) as (victim, service), sending(victim):
        service.wait_for_beat()
        time.sleep(seconds)
        service.wait_for_beat()
        events = victim.rows("SELECT count(*) FROM event")[0][0]
    gaps = [later - earlier for earlier, later in itertools.pairwise(service.beats)]
    longest_s = max(gaps, default=0.0)
    print(f"{events} events, {len(service.beats)} heartbeats, at most {longest_s:.1f} s apart")
    problems = [f"it told {path}" for path, _ in service.told if "/fail" in path]
    return problems + ([] if events else ["nothing was stored: was that load?"])


def main() -> None:
    arguments = campaigns.arguments(__doc__, load_minutes=60.0, every_s=60.0)
    found: dict[str, list[str]] = {}
    for name, fault in FAULTS.items():
        with folder() as at:
            found[name] = on(at, fault)
    with small_disk() as disk:
        found["a full disk"] = on_full_disk(disk)
    with folder() as at:
        found["a server that is gone"] = without_server(at)
    with folder() as at:
        found["load"] = under_load(at, arguments.load_minutes * 60, arguments.every_s)
    for name, problems in found.items():
        print(f"{name}: {problems or 'as it should be'}")
    campaigns.end([f"{name}: {each}" for name, problems in found.items() for each in problems])


if __name__ == "__main__":
    main()
