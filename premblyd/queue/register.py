"""The row in `host` that a daemon has from its start to its end (`Hosts`), and what it is among the
daemons on its database (`Member`). Here it is alone: what the last daemon ran, the next one takes
over. Of several hosts, see features/postgresql.
"""

import asyncio
import os
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from premblyd import __version__
from premblyd.ground.errors import StoreUnavailableError
from premblyd.ground.times import Clock, boot_s
from premblyd.queue.end import interrupt, lock
from premblyd.queue.jobs import Job
from premblyd.queue.queue import FREE_RUNNING_OF, Queue
from premblyd.store.engine import Statement, Transaction, insert, param, update
from premblyd.store.states import LOST, STOPPED, State
from premblyd.store.tables import Delivery, Host
from premblyd.store.writer import Step, Writer

SURE_S = 1.0  # after it was claimed, or that proved: meanwhile its person may have been erased


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity of a daemon's process. `worker`: its name in `attempt`."""

    worker: str
    name: str
    pid: int
    version: str = __version__

    @classmethod
    def of_this_process(cls, name: str) -> Self:
        """Return this process's identity, new with each call: a name that no other has ever had."""
        pid = os.getpid()
        return cls(worker=f"{name}:{pid}:{uuid.uuid4().hex[:8]}", name=name, pid=pid)


class Hosts:
    """The row of a daemon in `host`. Its futures resolve after the commit."""

    def __init__(
        self,
        writer: Writer,
        identity: Identity,
        actions: Iterable[str] = (),
        lost_after_ms: int | None = None,
    ) -> None:
        self._writer = writer
        self._lost_after_ms = lost_after_ms
        self._identity = identity
        self._worker = identity.worker
        # Known from the start: else the others end what has waited for this host to come back.
        self._actions = "\n".join(actions)

    def join(self, now_ms: int) -> "asyncio.Future[list[int]]":
        """Add this daemon. None works beside it: who has not ended is dead, and nobody is waited
        for. Return which deliveries are due because the last daemon died."""

        def operation(transaction: Transaction) -> list[int]:
            transaction.change(_END_ALL, ended_at_ms=now_ms)
            transaction.change(_FORGET_ALL, forgotten_at_ms=now_ms)
            self._join(transaction, now_ms)
            return interrupt_all(transaction, transaction.rows(_ALL_RUNNING), now_ms)

        return self._writer.call(operation)

    def _join(self, transaction: Transaction, now_ms: int) -> None:
        transaction.insert(
            _JOIN,
            **asdict(self._identity),
            actions=self._actions,
            lost_after_ms=self._lost_after_ms,
            started_at_ms=now_ms,
            seen_at_ms=now_ms,
        )

    def ended(self, workers: Collection[str]) -> "asyncio.Future[set[str]]":
        """Return those of `workers` that have worked on this database and have ended."""

        def operation(transaction: Transaction) -> set[str]:
            return {worker for worker in workers if transaction.row(_HAS_ENDED, worker=worker)}

        return self._writer.call(operation)

    def leave(self, now_ms: int) -> "asyncio.Future[list[int]]":
        """Keep that this daemon has stopped. Make due what it could not report as ended; return
        which deliveries these are."""

        def operation(transaction: Transaction) -> list[int]:
            transaction.change(END, worker=self._worker, ended_at_ms=now_ms, ended=STOPPED)
            rows = transaction.rows(FREE_RUNNING_OF, worker=self._worker)
            return interrupt_all(transaction, rows, now_ms)

        return self._writer.call(operation, Step.LIFE)


def interrupt_all(
    transaction: Transaction, rows: Sequence[Sequence[Any]], now_ms: int
) -> list[int]:
    """Make due what runs by `rows`, which begin with id and attempts_left. Return their ids."""
    if ends := [delivery_id for delivery_id, attempts_left, *_ in rows if not attempts_left]:
        lock(transaction, ends)
    for delivery_id, attempts_left, *_ in rows:
        interrupt(transaction, delivery_id, attempts_left, now_ms)
    return [row[0] for row in rows]


class OwnClaim:
    """A claim of this daemon's own, as its hook asks for it: see run.starting.Claim. No other
    daemon can have taken it over."""

    def __init__(self, queue: Queue, job: Job, claimed_at_s: float) -> None:
        self._queue = queue
        self._job = job
        self._sure_since_s = claimed_at_s

    def is_sure(self) -> bool:
        return boot_s() - self._sure_since_s < SURE_S

    async def prove(self) -> bool:
        asked_at_s = boot_s()
        if not await self._queue.prove(self._job):
            return False
        self._sure_since_s = asked_at_s
        return True


class Member:
    """A daemon's part among those on its database: `join`, `run` as a loop, `leave` whatever has
    happened."""

    is_leader = True  # whether it is the one that does what is to be done once

    def __init__(self, hosts: Hosts, queue: Queue, clock: Clock) -> None:
        self._hosts = hosts
        self._queue = queue
        self._clock = clock

    def configure(self, actions: Sequence[str]) -> None:
        """Have the actions of these names from now on."""

    def claim(self, job: Job, claimed_at_s: float) -> OwnClaim:
        """Return the claim of `job`, which was asked for then (boot_s)."""
        return OwnClaim(self._queue, job, claimed_at_s)

    async def join(self) -> list[int]:
        """Begin. Return which deliveries are due because their daemon is dead: this daemon's own
        predecessor, say. Raise StoreUnavailableError when the database can't."""
        return await self._hosts.join(self._clock.now_ms())

    async def ended(self, workers: Collection[str]) -> set[str]:
        """Return those of `workers` that have worked on this database and have ended."""
        return await self._hosts.ended(workers)

    async def run(self) -> None:
        """Know what the others do, until the daemon ends."""
        await asyncio.Event().wait()

    async def leave(self) -> None:
        """Keep that this daemon has stopped: what could not be finished here is due at once."""
        try:
            await self._hosts.leave(self._clock.now_ms())
        except StoreUnavailableError:  # the writer has logged it; who takes over knows
            return

    def announce(self) -> None:
        """Tell the other hosts that deliveries are due, soon."""


IS_ALIVE = Host.ended.is_null()
_OF_IDENTITY = [field.name for field in fields(Identity)]
_JOIN = insert(Host, *_OF_IDENTITY, *("actions", "lost_after_ms", "started_at_ms", "seen_at_ms"))
END = update(Host, "ended_at_ms", "ended", where=(Host.worker == param("worker")) & IS_ALIVE)
_END_ALL = Statement(Host.update(ended_at_ms=param("ended_at_ms"), ended=LOST).where(IS_ALIVE))
_FORGET_ALL = update(Host, "forgotten_at_ms", where=Host.forgotten_at_ms.is_null())
_HAS_ENDED = Statement(
    Host.select(Host.id).where(Host.worker == param("worker"), Host.ended.is_null(False))
)
RUNNING = Delivery.select(Delivery.id, Delivery.attempts_left).where(
    Delivery.state == State.RUNNING
)
_ALL_RUNNING = Statement(RUNNING)
