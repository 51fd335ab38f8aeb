"""When what was erased is gone from the database's files too: at once, or when nobody reads what
was there before any more. The daemon looks for what a command had to leave."""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence

from peewee import fn

from premblyd import loops
from premblyd.engines.backend import Backend
from premblyd.engines.engine import (
    Database,
    Lookup,
    Scrubbed,
    Statement,
    Transaction,
    param,
)
from premblyd.engines.writer import Step, Writer
from premblyd.model.keeptables import Erasure, ToErase
from premblyd.telemetry import tell
from premblyd.times import Clock

FIRST_S = 5.0
LOOK_S = 2.0  # while somebody reads what was there before
REST_S = 15.0


def pending(transaction: Transaction) -> list[int]:
    """Return the erasures that are done in the tables, and not known to be gone from the files."""
    return [row[0] for row in transaction.rows(_PENDING)]


def end(transaction: Transaction, erasure_ids: Sequence[int], now_ms: int) -> None:
    """Put down that what these erased is gone: those that were done before the files were scrubbed.
    One that has ended since may have left something."""
    transaction.change_each(_END, erasure_ids, now_ms=now_ms)


def scrub(database: Database) -> Scrubbed:
    """Have what was erased gone from the database's files, if nobody reads it; then that is put
    down."""
    waiting = database.look(pending)
    scrubbed = database.scrub()
    if scrubbed.is_gone and waiting:
        now_ms = database.now_ms()
        database.transact(lambda transaction: end(transaction, waiting, now_ms))
    return scrubbed


def scrub_files(backend: Backend) -> Scrubbed:
    """Have what is gone from the tables gone from the files, if nobody reads it: by a connection of
    its own, for the writer's waits for nobody who reads."""
    with contextlib.closing(backend.connect_operator()) as database:
        return database.scrub()


class Finishing:
    """The daemon's loop that looks whether what was erased is gone, where a command had to leave
    that: on one of several hosts."""

    def __init__(
        self,
        backend: Backend,
        writer: Writer,
        clock: Clock,
        *,
        is_leader: Callable[[], bool] = lambda: True,
    ) -> None:
        self._backend = backend
        self._writer = writer
        self._clock = clock
        self._is_leader = is_leader

    async def run(self) -> None:
        """Look, until cancelled."""
        await loops.repeat(self.look, REST_S, first_s=FIRST_S)

    async def look(self) -> float:
        """Look once; return the seconds until the next time."""
        if not self._is_leader():
            return REST_S
        waiting = await self._writer.call(pending, Step.EVIDENCE)
        if not waiting:
            return REST_S
        scrubbed = await asyncio.to_thread(scrub_files, self._backend)
        if not scrubbed.is_gone:
            return LOOK_S
        now_ms = self._clock.now_ms()
        await self._writer.call(
            functools.partial(end, erasure_ids=waiting, now_ms=now_ms), Step.EVIDENCE
        )
        tell("erasure.gone", count=len(waiting))
        return REST_S


_PENDING = Statement(
    Erasure.select(Erasure.id)
    .where(
        Erasure.gone_at_ms.is_null(),
        ~fn.EXISTS(ToErase.select(ToErase.id).where(ToErase.erasure_id == Erasure.id)),
    )
    .order_by(Erasure.id)
)
_END = Lookup(
    Erasure.update(gone_at_ms=param("now_ms")).where(Erasure.gone_at_ms.is_null()), Erasure.id
)
