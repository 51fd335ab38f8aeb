"""The daemons that work on a database: each has a row in `host`, from its start to its end
(`Hosts`); and what a daemon knows of others, where there are none (`Member`). Of several hosts,
those who watch decide who is lost; here it is written down, together with what becomes of what the
lost one ran.
"""

import asyncio
import os
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, Self

from peewee import fn

from premblyd import __version__
from premblyd.ground.errors import StoreUnavailableError
from premblyd.ground.times import Clock, boot_s
from premblyd.queue.end import interrupt, lock
from premblyd.queue.jobs import Job
from premblyd.queue.queue import FREE_RUNNING_OF, RUNNING_OF, Queue
from premblyd.store.engine import Statement, Transaction, insert, param, update
from premblyd.store.states import LOST, STOPPED, State
from premblyd.store.tables import IS_LAST_ATTEMPT, Attempt, Delivery, Host
from premblyd.store.writer import Step, Writer

SURE_S = 1.0  # after it was claimed, or that proved: meanwhile its person may have been erased
SILENT_MS = 60_000  # for which, and `lost_after`, one that works may not have been seen


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


class Sighting(NamedTuple):
    """A daemon that works on the database, as its row in `host` shows it."""

    id: int
    worker: str
    name: str
    beat_count: int  # grows as long as it lives
    lost_after_ms: int | None = None  # as its row says; None: it says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """What was taken over from lost daemons: their deliveries are due now."""

    hosts: list[Sighting]
    delivery_ids: list[int]


def is_working(host: Any, now_ms: Any) -> Any:
    """Return the condition that a row of `host` is of a daemon that has been seen just now."""
    seen_until_ms = host.seen_at_ms + fn.COALESCE(host.lost_after_ms, 0) + SILENT_MS
    return host.ended.is_null() & (seen_until_ms > now_ms)


class Hosts:
    """The rows of `host`. Its futures resolve after the commit."""

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

    def know(self, actions: Iterable[str]) -> "asyncio.Future[int]":
        """Keep the names of the actions that this daemon has: others leave their deliveries
        alone, even if they don't know them."""
        self._actions = "\n".join(actions)
        return self._writer.call(
            lambda transaction: transaction.change(
                _KNOW, worker=self._worker, actions=self._actions
            )
        )

    def join(self, now_ms: int) -> "asyncio.Future[list[int]]":
        """Add this daemon, and take over from those that have ended. Return which deliveries that
        makes due."""

        def operation(transaction: Transaction) -> list[int]:
            self._join(transaction, now_ms)
            return _interrupt(transaction, transaction.rows(_ORPHANS), now_ms)

        return self._writer.call(operation)

    def join_alone(self, now_ms: int) -> "asyncio.Future[list[int]]":
        """Add this daemon, where none works beside it: who has not ended is dead, and nobody is
        waited for. Return which deliveries are due because the last daemon died."""

        def operation(transaction: Transaction) -> list[int]:
            transaction.change(_END_ALL, ended_at_ms=now_ms)
            transaction.change(_FORGET_ALL, forgotten_at_ms=now_ms)
            self._join(transaction, now_ms)
            return _interrupt(transaction, transaction.rows(_ALL_RUNNING), now_ms)

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

    def take_over(self, lost: Sequence[Sighting], now_ms: int) -> "asyncio.Future[TakenOver]":
        """End those of `lost` that have not been seen since, and make due what they ran; so too
        what daemons run that ended before."""

        def operation(transaction: Transaction) -> TakenOver:
            ended = [
                sighting
                for sighting in lost
                if transaction.row(_AS_SEEN, **sighting._asdict())
                and transaction.change(_END, worker=sighting.worker, ended_at_ms=now_ms, ended=LOST)
            ]
            return TakenOver(
                hosts=ended,
                delivery_ids=_interrupt(transaction, transaction.rows(_ORPHANS), now_ms),
            )

        return self._writer.call(operation)

    def revive(self, now_ms: int) -> "asyncio.Future[set[str]]":
        """Let this daemon live again, which the others took for lost. Return the tokens of the
        claims that are still its own. Its row may be gone too: a standby took over that did not
        have it."""

        def operation(transaction: Transaction) -> set[str]:
            if not transaction.change(_REVIVE, worker=self._worker):
                self._join(transaction, now_ms)
            rows = transaction.rows(RUNNING_OF, worker=self._worker)
            return {token for _, _, token in rows}

        return self._writer.call(operation)

    def ended(self, workers: Collection[str]) -> "asyncio.Future[set[str]]":
        """Return those of `workers` that have worked on this database and have ended."""

        def operation(transaction: Transaction) -> set[str]:
            return {worker for worker in workers if transaction.row(_HAS_ENDED, worker=worker)}

        return self._writer.call(operation)

    def leave(self, now_ms: int) -> "asyncio.Future[list[int]]":
        """Keep that this daemon has stopped. Make due what it could not report as ended; return
        which deliveries these are."""

        def operation(transaction: Transaction) -> list[int]:
            transaction.change(_END, worker=self._worker, ended_at_ms=now_ms, ended=STOPPED)
            rows = transaction.rows(FREE_RUNNING_OF, worker=self._worker)
            return _interrupt(transaction, rows, now_ms)

        return self._writer.call(operation, Step.LIFE)


def _interrupt(transaction: Transaction, rows: Sequence[Sequence[Any]], now_ms: int) -> list[int]:
    """Make due what runs by `rows`, which begin with id and attempts_left. Return their ids."""
    if ends := [delivery_id for delivery_id, attempts_left, *_ in rows if not attempts_left]:
        lock(transaction, ends)
    for delivery_id, attempts_left, *_ in rows:
        interrupt(transaction, delivery_id, attempts_left, now_ms)
    return [row[0] for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutHost:
    """What the configuration says of this host. `lost_after_ms`: after so long of silence others
    count it as lost."""

    name: str | None = None
    lost_after_ms: int = 0


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
    happened. This one is alone: what the last daemon left, the next one takes over."""

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
        return await self._hosts.join_alone(self._clock.now_ms())

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


_IS_ALIVE = Host.ended.is_null()
_OF_IDENTITY = [field.name for field in fields(Identity)]
_JOIN = insert(Host, *_OF_IDENTITY, *("actions", "lost_after_ms", "started_at_ms", "seen_at_ms"))
_KNOW = update(Host, "actions", where=Host.worker == param("worker"))
_END = update(Host, "ended_at_ms", "ended", where=(Host.worker == param("worker")) & _IS_ALIVE)
_END_ALL = Statement(Host.update(ended_at_ms=param("ended_at_ms"), ended=LOST).where(_IS_ALIVE))
_FORGET_ALL = update(Host, "forgotten_at_ms", where=Host.forgotten_at_ms.is_null())
_AS_SEEN = Statement(
    Host.select(Host.id).where(
        Host.id == param("id"),
        Host.worker == param("worker"),  # a failover may have given its number to another
        Host.beat_count == param("beat_count"),
        _IS_ALIVE,
    ),
    locks=True,
)
_REVIVE = Statement(
    Host.update(
        ended_at_ms=None, ended=None, forgotten_at_ms=None, beat_count=Host.beat_count + 1
    ).where(Host.worker == param("worker"))
)
_HAS_ENDED = Statement(
    Host.select(Host.id).where(Host.worker == param("worker"), Host.ended.is_null(False))
)
_RUNNING = Delivery.select(Delivery.id, Delivery.attempts_left).where(
    Delivery.state == State.RUNNING
)
_ALL_RUNNING = Statement(_RUNNING)
# What runs under workers that don't live.
_ORPHANS = Statement(
    _RUNNING.join(Attempt, on=IS_LAST_ATTEMPT).where(
        Attempt.worker.not_in(Host.select(Host.worker).where(_IS_ALIVE))
    ),
    locks=True,
)
# What a beacon says and asks.
BEAT = Statement(
    Host.update(beat_count=Host.beat_count + 1, seen_at_ms=param("seen_at_ms")).where(
        Host.worker == param("worker"), _IS_ALIVE
    )
)
SIGHTINGS = Statement(
    Host.select(Host.id, Host.worker, Host.name, Host.beat_count, Host.lost_after_ms).where(
        _IS_ALIVE
    )
)
