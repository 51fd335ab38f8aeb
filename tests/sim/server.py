"""One PostgreSQL server for several hosts, in one thread: a transaction is a greenlet, which others
overtake while it waits for an answer; a network that fails; and beacons that tell by virtual time.

What a transaction has locked makes another that wants it begin anew, until it is free: to wait for
the server would wait for ever.
"""

import asyncio
import contextlib
import functools
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg
from greenlet import GreenletExit, getcurrent, greenlet
from psycopg.errors import LockNotAvailable

from premblyd.features.postgresql.engine import PostgresqlBackend, PostgresqlEngine
from premblyd.features.postgresql.membership import Beat, TimeRead
from premblyd.features.postgresql.opening import connect
from premblyd.features.postgresql.transaction import compiled
from premblyd.ground.errors import StoreUnavailableError, TableUnavailableError
from premblyd.store.engine import Statement, Transaction
from tests.sim.disk import Fate, InlineWriter
from tests.sim.virtual import Crash
from tests.support.postgresql import DIGEST_KEY

if TYPE_CHECKING:
    from tests.sim.hosts import Host

LOCKED = {"lock_timeout": "20ms", "idle_in_transaction_session_timeout": "0"}
LOCK_WAIT_S = 2.5  # see features.postgresql.engine
DEADLINE_S = 9.0
NO_ANSWER = "PostgreSQL does not answer"
GIVEN_UP = -1.0  # instead of a pause: who waits for the transaction waits no more


def pause(seconds: float) -> None:
    """Let others go on, in the middle of a transaction."""
    getcurrent().parent.switch(seconds)


def send(pieces: Any, *, real: Callable[[Any], None], sim: Any) -> None:
    """Instead of Pieces.send: others may go on after each answer."""
    real(pieces)
    host = sim.current
    if host.rng.random() < sim.overtaking:
        pause(host.rng.choice((0.001, 0.02, 0.3)))
        if host.is_cut:
            pause(host.rng.choice((0.0, 4.0)))  # the server keeps its locks for so long
            raise psycopg.OperationalError("server closed the connection unexpectedly")


class NoDeadline(contextlib.nullcontext[None]):
    """See opening.Deadline: it would measure virtual time by a thread."""

    is_over = False

    def watch(self, _: object) -> None: ...
    def forget(self) -> None: ...
    def close(self) -> None: ...


class Engine(PostgresqlEngine):
    """A host's way to the server, with the fates of its commits."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self.digest_key = DIGEST_KEY
        self._deadline: Any = NoDeadline()
        self._database = connect(host.server, None, **LOCKED)
        self._committing = self._gathers = False
        self._part = None
        self._fate = Fate.WELL
        self.is_given_up = False

    def transact(self, work: Callable[[Transaction], None]) -> None:
        waited_s = 0.0
        while True:
            try:
                return super().transact(work)
            except TableUnavailableError:
                if waited_s > LOCK_WAIT_S:
                    raise
            waited_s += (again_s := max(0.02, waited_s / 2))
            self._host.sim.counts["waits for locks"] += 1
            pause(again_s)

    def _transact(self, work: Callable[[Transaction], None]) -> None:
        host = self._host
        self._fate = host.disk.fate()
        if host.is_cut or self._fate is Fate.LOCKED:
            self._disconnect()
            pause(host.rng.choice((0.0, DEADLINE_S)))
            raise StoreUnavailableError(NO_ANSWER)
        try:
            super()._transact(work)
            host.sim.model.committed()
        except Exception:
            if not self.is_given_up:
                raise
        if self.is_given_up:  # nobody is there any more
            self._database.close()
            raise GreenletExit
        match self._fate:
            case Fate.CRASH_AFTER:
                raise Crash
            case Fate.KEPT:
                self._disconnect()
                pause(host.rng.choice((0.0, DEADLINE_S)))
                raise StoreUnavailableError(NO_ANSWER)

    def _will_commit(self) -> None:
        super()._will_commit()
        host = self._host
        self._fate = host.disk.fate_of_claim(self._fate)
        pause(host.disk.takes_s())
        if host.is_cut:  # nobody hears whether it came
            self._fate = host.rng.choice((Fate.FULL, Fate.KEPT, Fate.LATE))
        match self._fate:
            case Fate.CRASH_BEFORE:
                raise Crash
            case Fate.FULL:
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            case Fate.LATE:
                pause(DEADLINE_S)
                self.is_given_up = True
                pause(GIVEN_UP)

    def _disconnect(self) -> None:
        if not isinstance(sys.exception(), LockNotAvailable):
            super()._disconnect()


class Backend(PostgresqlBackend):
    """The server as a host reaches it."""

    host: "Host"  # set by who makes the class its own

    def prepare(self) -> bool:
        if self.host.is_cut:
            raise StoreUnavailableError(NO_ANSWER)
        return False

    def engine(self) -> Any:
        return self.host.new_engine()

    def beacon(self) -> Any:
        return Beacon(self.host)


class Writer(InlineWriter):
    """The writer without its thread, whose transactions take their time."""

    host: "Host"

    def _pass_on(self, batch: list[Any]) -> None:
        transaction = greenlet(functools.partial(self._commit_in_line, batch))
        self._loop.call_soon(self._go_on, transaction, batch)

    def _go_on(self, transaction: Any, batch: list[Any]) -> None:
        self.host.open.add(transaction)
        wait_s = transaction.switch()
        if transaction.dead:
            self.host.open.discard(transaction)
        elif wait_s == GIVEN_UP:
            self.host.open.discard(transaction)
            self.host.finishes_late(transaction)
            self.host.engines.remove(self._engine)  # type: ignore[arg-type]
            self._engine = self.host.new_engine()
            self._report(NO_ANSWER)
            for waiting in batch:
                waiting.error = StoreUnavailableError(NO_ANSWER)
            self._committed(batch)
        else:
            self._loop.call_later(wait_s, self._go_on, transaction, batch)


class Beacon:
    """See membership.Beacon. All hosts have one connection for it, whose statements are
    transactions."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self.stirred = asyncio.Event()
        self.has_heard = False

    async def _go(self) -> None:
        host = self._host
        await asyncio.sleep(host.rng.choice((0.0002, 0.001, 0.03)) + host.slow_s)
        if host.is_cut:
            await asyncio.sleep(host.rng.choice((0.0, 5.0)))
            raise StoreUnavailableError(NO_ANSWER)

    async def read_time(self) -> TimeRead:
        asked_at_s = time.monotonic()
        await self._go()
        now_ms = self._host.sim.server_ms
        await self._go()
        return TimeRead(now_ms=now_ms, asked_at_s=asked_at_s, answered_at_s=time.monotonic())

    async def beat(self, beat: Statement, look: Statement, worker: str) -> Beat:
        read = await self.read_time()
        await self._go()
        saying, asking = compiled(beat), compiled(look)
        values = saying.bind({"worker": worker, "seen_at_ms": read.now_ms})
        for _ in range(20):
            with contextlib.suppress(LockNotAvailable), self._host.sim.link.pipeline():
                beaten = self._host.sim.link.execute(saying.text, values)
                # Prepared behind one that fails, it would not be there the next time.
                asked = self._host.sim.link.execute(asking.text, asking.bind({}), prepare=False)
                hosts = asked.fetchall()
                break
            await asyncio.sleep(0.1)
        else:
            raise StoreUnavailableError("another transaction holds a lock")
        await self._go()
        return Beat(hosts=hosts, is_known=beaten.rowcount > 0, time=read)

    async def announce(self) -> None:
        await self._go()
        self._host.sim.announce(self._host)

    async def wait(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.stirred.wait()
        self.stirred.clear()
        heard, self.has_heard = self.has_heard, False
        return heard

    def stir(self) -> None:
        self.stirred.set()

    async def close(self) -> None: ...
