"""How long what the daemon does takes by itself: its transactions, claims, its start."""

import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from premblyd import times
from premblyd.engines.engine import Engine, Transaction
from premblyd.engines.writer import Writer
from premblyd.model.states import AttemptOutcome, State
from premblyd.queue.jobs import Claimable, Ending, Result, Room
from premblyd.queue.queue import Queue
from tests.bench import load
from tests.support.daemon import Premblyd

Done = TypeVar("Done")
SLOTS = 4  # deliveries in a claim


class Timed:
    """An engine that knows how long its transactions took. Without their commits, unless asked: on
    SQLite these wait for the disk, and would hide what the size of the record does."""

    def __init__(self, engine: Engine, *, with_commits: bool = False) -> None:
        self._engine = engine
        self.runs_here, self.digest_key = engine.runs_here, engine.digest_key
        self.refusals = engine.refusals
        self._with_commits = with_commits
        self.took_s = 0.0

    def transact(self, work: Callable[[Transaction], None], **how: bool) -> None:
        took_s = 0.0

        def timed(transaction: Transaction) -> None:
            nonlocal took_s
            begun = time.perf_counter()
            work(transaction)
            took_s = time.perf_counter() - begun

        begun = time.perf_counter()
        self._engine.transact(timed, **how)
        self.took_s += time.perf_counter() - begun if self._with_commits else took_s

    def tidy_up(self, item_count: int) -> None:
        self._engine.tidy_up(item_count)

    def close(self) -> None:
        self._engine.close()

    async def ms(self, doing: Awaitable[Done]) -> tuple[Done, float]:
        """Return what was done, and how long the transactions took by which it was."""
        before_s = self.took_s
        return await doing, (self.took_s - before_s) * 1000


async def claim_and_finish(
    writer: Writer, engine: Timed, action: str, count: int
) -> dict[str, float]:
    """Claim an action's deliveries and give them back, so often; return the medians of both."""
    queue = Queue(writer, "bench:1:00000000")
    actions = {action: Claimable(slots=SLOTS, lease_ms=60_000, digest="0" * 12)}
    given_back = Result(outcome=AttemptOutcome.INTERRUPTED)
    claims, finishes = [], []
    for _ in range(count):
        now_ms = times.now_ms()
        claimed, took_ms = await engine.ms(queue.claim(actions, Room(limit=SLOTS), now_ms))
        claims.append(took_ms)
        if len(claimed.jobs) != SLOTS:
            raise load.LoadError(f"{len(claimed.jobs)} deliveries were due instead of {SLOTS}")
        for job in claimed.jobs:
            left = job.attempts_left + 1
            ending = Ending(state=State.PENDING, at_ms=now_ms, due_at_ms=now_ms, attempts_left=left)
            _, took_ms = await engine.ms(queue.finish(job, given_back, ending))
            finishes.append(took_ms)
    return {"claim": statistics.median(claims), "finish": statistics.median(finishes)}


def start_ms(daemon: Premblyd) -> float:
    """Start a daemon, and return how long it took until it told systemd that it is ready."""
    with (
        tempfile.TemporaryDirectory() as name,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        systemd.bind(f"{name}/notify")
        begun = time.perf_counter()
        daemon.start(is_executed=True, NOTIFY_SOCKET=f"{name}/notify")
        while b"READY=1" not in systemd.recv(4096):
            continue
        return (time.perf_counter() - begun) * 1000


def median_ms(works: Iterable[Callable[[], object]]) -> float:
    """Do each, and return the median of how long they took."""
    took_ms = []
    for work in works:
        begun = time.perf_counter()
        work()
        took_ms.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took_ms)
