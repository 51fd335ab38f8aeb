"""The disk and the writer: real SQLite, committed in line; a commit may fail, fail and be kept
nevertheless, take long, or be the last thing that the process does."""

import asyncio
import contextlib
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from premblyd.ground.errors import StoreUnavailableError
from premblyd.store.engine import Transaction
from premblyd.store.sqlite.engine import SqliteBackend, SqliteEngine
from premblyd.store.writer import Writer
from tests.sim.virtual import Crash


class Fate(Enum):
    """What becomes of a commit."""

    WELL = auto()
    LOCKED = auto()  # it can't begin
    FULL = auto()  # it can't be written
    KEPT = auto()  # it is said to have failed, and is there
    LATE = auto()  # it is given up, and is there later: a server may wait for its standby
    CRASH_BEFORE = auto()
    CRASH_AFTER = auto()


CRASHES = (Fate.CRASH_BEFORE, Fate.CRASH_AFTER)
FAILURES = (Fate.LOCKED, Fate.FULL, Fate.KEPT)


class Disk:
    """Decides about commits. `committed` is called after each that is on the disk."""

    committed: Callable[[], None]

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.next_fates: list[Fate] = []  # of the next commits
        self.next_claim: Fate | None = None  # of the next one in which a hook begins
        self.is_claim = False  # a hook begins in the open transaction
        self.fails_with: Fate | None = None  # all of them, until it is mended
        self.slow_s = 0.0
        self._failed_s = float("-inf")
        self.times_s = (0.0005, 0.002, 0.02)
        self.told: Callable[[Fate], None] = lambda _: None

    def fails(self, within_s: float) -> bool:
        """Return whether a commit failed so lately, or takes long."""
        return self.slow_s > 0 or time.monotonic() - self._failed_s < within_s

    def mend(self) -> None:
        self.fails_with, self.next_claim, self.slow_s = None, None, 0.0
        self.next_fates.clear()

    def takes_s(self) -> float:
        """Return how long the next commit takes."""
        return self._rng.choice(self.times_s) + self.slow_s

    def fate(self) -> Fate:
        """Return what becomes of the transaction that begins."""
        self.is_claim = False
        fate = self.fails_with or (self.next_fates.pop(0) if self.next_fates else Fate.WELL)
        if fate is not Fate.WELL:
            self._failed_s = time.monotonic()
            self.told(fate)
        return fate

    def fate_of_claim(self, fate: Fate) -> Fate:
        """Return what becomes of the transaction after all, now that its work is done."""
        if not self.is_claim or self.next_claim is None or fate is not Fate.WELL:
            return fate
        fate, self.next_claim = self.next_claim, None
        self._failed_s = time.monotonic()
        self.told(fate)
        return fate


class Engine:
    """SQLite, with the disk's fates."""

    runs_here = False  # there is no other thread, and nobody waits for one

    def __init__(self, real: SqliteEngine, disk: Disk) -> None:
        self._real = real
        self._disk = disk
        self.digest_key, self.refusals = real.digest_key, real.refusals

    def transact(self, work: Callable[[Transaction], None]) -> None:
        fate = self._disk.fate()

        def do(transaction: Transaction) -> None:
            nonlocal fate
            work(transaction)
            fate = self._disk.fate_of_claim(fate)
            if fate is Fate.CRASH_BEFORE:
                raise Crash
            if fate is Fate.FULL:
                raise sqlite3.OperationalError("database or disk is full")

        if fate is Fate.LOCKED:
            raise StoreUnavailableError("database is locked")
        self._real.transact(do)
        self._disk.committed()
        if fate is Fate.CRASH_AFTER:
            raise Crash
        if fate is Fate.KEPT:
            self._real.close()  # as after any error of the disk
            raise StoreUnavailableError("disk I/O error")

    def tidy_up(self, item_count: int) -> None:
        self._real.tidy_up(item_count)

    def close(self) -> None:
        self._real.close()


class Backend(SqliteBackend):
    """SQLite on a file that nobody else takes: who was killed holds no lock any more."""

    disk: Disk  # set by who makes the class its own
    engines: list[SqliteEngine]

    def hold(self) -> Any:
        return contextlib.nullcontext()

    def engine(self) -> Any:
        real = super().engine()
        self.engines.append(real)
        return Engine(real, self.disk)


class InlineWriter(Writer):
    """The writer without its thread: a batch is committed when its time has come."""

    disk: Disk

    def _begin(self) -> threading.Thread:
        return threading.Thread()  # which is never started

    def _pass_on(self, batch: list[Any]) -> None:
        self._loop.call_later(self.disk.takes_s(), self._commit_in_line, batch)

    def _commit_in_line(self, batch: list[Any]) -> None:
        self._do(batch)
        self._tidy_up(len(batch))

    async def close(self) -> None:
        while self._gathered or self._committing:
            await asyncio.sleep(0.001)
        self._engine.close()
