"""What a running daemon does: it deletes expired data beside its other work, in small transactions
with gaps between them, on one of several hosts; and it keeps the files with erasures' lines
complete."""

import asyncio
import functools
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import astuple
from typing import TYPE_CHECKING

from peewee import Select, fn

from premblyd.config.models import Config
from premblyd.feature import added
from premblyd.features.keeping import removing, retention, trusted
from premblyd.features.keeping.retention import Round
from premblyd.features.keeping.settings import RETENTION, Retention
from premblyd.features.keeping.tables import Erasure, ErasureFile, ToErase
from premblyd.ground import loops
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.telemetry import tell
from premblyd.ground.times import HOUR_MS, Clock
from premblyd.services import Part, Services
from premblyd.store.connections import connect_read_only
from premblyd.store.engine import BulkInsert, Row, Statement, Transaction, param
from premblyd.store.writer import Step, Writer

if TYPE_CHECKING:
    from premblyd.features.keeping.erasurelines import FileState

FIRST_S = 10.0  # after the start: what came meanwhile goes first
REST_S = 60.0  # between two rounds
WHOLE_EVERY_MS = 6 * HOUR_MS  # what waited, or was on hold, may go by now


class Sweeping:
    """Removes what has expired: a round now and then, for as long as this daemon is the one that
    does it (`is_leader`)."""

    def __init__(self, writer: Writer, clock: Clock, *, is_leader: Callable[[], bool]) -> None:
        self._writer = writer
        self._clock = clock
        self._is_leader = is_leader
        self._settings = Retention()
        self._whole_ms: int | None = None  # when a round was whole
        self._wake = asyncio.Event()

    def configure(self, settings: Retention) -> None:
        """Remove by these periods from the next round on."""
        if settings != self._settings:
            self._settings = settings
            self._whole_ms = None
            self._wake.set()

    async def run(self) -> None:
        """Delete expired data, until cancelled. After a round that fails, continue with the
        next."""
        await asyncio.sleep(FIRST_S)
        await loops.repeat(self.round, REST_S, wake=self._wake, failed="retention.failed")

    async def round(self) -> float:
        """Remove all that has expired; return the seconds until the next round."""
        if self._is_leader():
            await self._sweep(self._settings)
        else:
            self._whole_ms = None
        return REST_S

    async def _sweep(self, settings: Retention) -> None:
        counted = functools.partial(trusted.counted_ms, wall_ms=self._clock.now_ms())
        now_ms = await self._writer.call(counted, Step.EVIDENCE)
        end = functools.partial(removing.end_what_expired, now_ms=now_ms)
        await self._writer.call(end, Step.EVIDENCE)
        is_whole = self._whole_ms is None or not 0 <= now_ms - self._whole_ms < WHOLE_EVERY_MS
        round_ = Round(settings, is_whole=is_whole)
        try:
            while round_.has_work and settings is self._settings and self._is_leader():
                await asyncio.sleep(await self._step(round_, now_ms))
        finally:
            for removed, count in sorted(round_.removed.items()):
                if count:
                    tell("retention.removed", removed=removed, count=count)
        if is_whole and not round_.has_work and settings is self._settings:
            self._whole_ms = now_ms

    async def _step(self, round_: Round, now_ms: int) -> float:
        """Do the next work of a round; return the seconds until that behind it."""
        began = time.monotonic()
        # Alone: in it names are locked, and webhooks may have locked others by then.
        done = await self._writer.call(round_.work(now_ms), Step.EVIDENCE, alone=True)
        round_.take(done)
        return retention.gap_s(done, time.monotonic() - began)


class LineKeeper:
    """Completes the files for as long as a daemon runs, and keeps for `status` how they are."""

    def __init__(self, writer: Writer, place: DatabaseAddress, host: str) -> None:
        self._writer = writer
        self._place = place
        self._host = host
        self._seen: Row | None = None

    async def run(self) -> None:
        """Keep them complete until the daemon ends."""
        await loops.repeat(self.round, REST_S, first_s=FIRST_S, failed="erasure.lines_failed")

    async def round(self) -> float:
        """Complete them at the start, after an erasure and a copy, and where it failed before;
        return the seconds until the next round."""
        newest = await self._writer.call(lambda each: each.row(_NEWEST), Step.EVIDENCE)
        if newest != self._seen:
            states = await asyncio.to_thread(self._complete)  # a disk may hang
            await self._writer.call(functools.partial(self._keep, states), Step.EVIDENCE)
            self._seen = None if any(each.error for each in states) else newest
        return REST_S

    def _complete(self) -> "list[FileState]":
        # Here, not at the start, a tenth of which it would take.
        from premblyd.features.keeping import erasurelines

        with closing(connect_read_only(self._place)) as database:
            return erasurelines.complete(database, self._place)

    def _keep(self, states: "list[FileState]", transaction: Transaction) -> None:
        transaction.change(_FORGET, host=self._host)
        transaction.insert_many(_KEEP, [(self._host, *astuple(each)) for each in states])


class Keeping(Part):
    """Has both run."""

    def open(self, services: Services) -> None:
        writer = services.writer
        self._sweeping = Sweeping(writer, services.clock, is_leader=services.is_leader)
        lines = LineKeeper(writer, services.database, services.own.name)
        self.loops = {"retention": self._sweeping.run, "erasure lines": lines.run}

    def configure(self, settings: Config, prepared: object) -> None:
        self._sweeping.configure(RETENTION.of(settings))


_NEWEST = Statement(
    Select(
        None,
        (
            Erasure.select(fn.MAX(Erasure.id)),
            ToErase.select(fn.COUNT(ToErase.id)),
            *(each.select(fn.MAX(each.copied_at_ms)) for each in added("tables", "COPIES")),
        ),
    )
)
_FORGET = Statement(ErasureFile.delete().where(ErasureFile.host == param("host")))
_KEEP = BulkInsert(ErasureFile, "host", "file", "unknown", "error")
PARTS = (Keeping,)
