"""The daemons that work on a database: each has a row in `host`, from its start to its end.

Who is lost is decided by those who watch (premblyd/hosts/); here it is written down, together with
what becomes of what the lost one was running.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, TypeVar

from peewee import fn

from premblyd.ground.errors import MoveAtWorkError, OtherRecordError, PremblydError
from premblyd.queue import recovery
from premblyd.queue.end import lock
from premblyd.queue.identity import Identity, Predecessor
from premblyd.store.engine import Statement, Transaction, insert, param, update
from premblyd.store.schema import LOCK, MOVE
from premblyd.store.states import LOST, STOPPED, State
from premblyd.store.tables import IS_LAST_ATTEMPT, Attempt, Delivery, Host, Record
from premblyd.store.writer import Step, Writer

Done = TypeVar("Done")
SILENT_MS = 60_000  # for which, and `lost_after`, one that works may not have been seen


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

    def predecessors(self) -> "asyncio.Future[list[Predecessor]]":
        """Return who has not ended of this daemon's place."""

        def operation(transaction: Transaction) -> list[Predecessor]:
            rows = transaction.rows(_OF_PLACE, place=self._identity.place)
            return [Predecessor(*row) for row in rows]

        return self._writer.call(operation)

    async def join(self, dead: Collection[str], now_ms: int) -> list[int]:
        """Add this daemon. Take over from the workers in `dead`, and from those that ended before.
        Return which deliveries that makes due. Raise MoveAtWorkError when the database is being
        moved."""

        def operation(transaction: Transaction) -> list[int] | PremblydError:
            if (unfit := _unfit(transaction)) is not None:
                return unfit
            for worker in dead:
                transaction.change(_END, worker=worker, ended_at_ms=now_ms, ended=LOST)
            self._join(transaction, now_ms)
            return _interrupt(transaction, transaction.rows(_ORPHANS), now_ms)

        return _of_fit(await self._writer.call(operation, names=[LOCK]))

    async def require_fit(self) -> None:
        """Raise as `join` does when this daemon, whose row still counts, can't work here any more:
        nobody looked for it, as it had not been seen for long."""
        _of_fit(await self._writer.call(_unfit, names=[LOCK]))

    async def join_alone(self, now_ms: int) -> list[int]:
        """Add this daemon, where none works beside it: who has not ended is dead, and nobody is
        waited for. Return which deliveries are due because the last daemon died."""

        def operation(transaction: Transaction) -> list[int]:
            transaction.change(_END_ALL, ended_at_ms=now_ms)
            transaction.change(_FORGET_ALL, forgotten_at_ms=now_ms)
            self._join(transaction, now_ms)
            return _interrupt(transaction, transaction.rows(_ALL_RUNNING), now_ms)

        return await self._writer.call(operation)

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

    async def revive(self, now_ms: int) -> set[str]:
        """Let this daemon live again, which the others took for lost. Return the tokens of the
        claims that are still its own. Its row may be gone too: a standby took over that did not
        have it. Raise MoveAtWorkError when the database is being moved."""

        def operation(transaction: Transaction) -> set[str] | PremblydError:
            if (unfit := _unfit(transaction)) is not None:
                return unfit
            if not transaction.change(_REVIVE, worker=self._worker):
                self._join(transaction, now_ms)
            rows = transaction.rows(recovery.RUNNING_OF, worker=self._worker)
            return {token for _, _, token in rows}

        return _of_fit(await self._writer.call(operation, names=[LOCK]))

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
            rows = transaction.rows(recovery.FREE_RUNNING_OF, worker=self._worker)
            return _interrupt(transaction, rows, now_ms)

        return self._writer.call(operation, Step.LIFE)


def _unfit(transaction: Transaction) -> PremblydError | None:
    """Return why no daemon can work on the database; None: it can. Who makes the schema has its
    lock, and so has who becomes a daemon. Who moves the database takes another under that one, and
    then looks for daemons."""
    if not transaction.try_lock(MOVE):
        return MoveAtWorkError("the database")
    [key] = transaction.row(_DIGEST_KEY) or [None]
    return None if key == transaction.digest_key else OtherRecordError()


def _of_fit(done: Done | PremblydError) -> Done:
    if isinstance(done, PremblydError):
        raise done
    return done


def _interrupt(transaction: Transaction, rows: Sequence[Sequence[Any]], now_ms: int) -> list[int]:
    """Make due what runs by `rows`, which begin with id and attempts_left. Return their ids."""
    if ends := [delivery_id for delivery_id, attempts_left, *_ in rows if not attempts_left]:
        lock(transaction, ends)
    for delivery_id, attempts_left, *_ in rows:
        recovery.interrupt(transaction, delivery_id, attempts_left, now_ms)
    return [row[0] for row in rows]


_DIGEST_KEY = Statement(Record.select(Record.digest_key))
_IS_ALIVE = Host.ended.is_null()
_OF_IDENTITY = [field.name for field in fields(Identity)]
_JOIN = insert(Host, *_OF_IDENTITY, *("actions", "lost_after_ms", "started_at_ms", "seen_at_ms"))
_OF_PLACE = Statement(
    Host.select(Host.worker, Host.pid, Host.process_start).where(
        Host.place == param("place"), _IS_ALIVE
    )
)
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
