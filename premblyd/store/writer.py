"""The one thread that writes: it commits everything that waits as one transaction.

The loop never waits for a disk, and one fsync serves every request that came meanwhile.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from operator import attrgetter
from typing import Any, Generic, TypeVar

from premblyd.ground.errors import (
    StoreUnavailableError,
    TableUnavailableError,
    ValueRefusedError,
    without_frames,
)
from premblyd.ground.telemetry import tell
from premblyd.store.engine import Engine, Transaction

MAX_BATCH = 500
MAX_NAMES = 200  # that a transaction locks: PostgreSQL has room for some 6,000, for all hosts
RECENT_S = 20.0  # a commit that failed so lately is told, even if one has worked since
LET_RUN_S = 0.002  # so long does the loop let a transaction of some webhooks run, at most
SOME = range(2, 17)
Item = TypeVar("Item")
Done = TypeVar("Done")


class Step(IntEnum):
    """The order in which a transaction runs its operations, whichever was submitted first."""

    ARRIVALS = 1
    PROOF = 2  # that ARRIVALS can be stored: both fail by the same tables, and by no other
    FINISHES = 3  # and what moves due times when the clock was set: of those submitted before it
    CLAIMS = 4  # may claim what ARRIVALS and FINISHES have just made due
    EVIDENCE = 5
    LIFE = 6  # that this daemon lives


@dataclass(frozen=True, slots=True)
class Deferred(Generic[Done]):
    """A result that is read after its transaction has ended: nothing in the transaction needs it,
    so nothing there waits for it."""

    read: Callable[[], Done]


@dataclass(frozen=True, slots=True, eq=False)
class Operation(Generic[Item, Done]):
    """What is done in a transaction with all items that wait for it at once: many rows in one
    statement cost one change of threads instead of one each. `run` returns a result for each item.

    It may run twice: when something in its transaction fails, that is rolled back and each item is
    tried alone. So it must do nothing but work on its transaction.
    """

    step: Step
    run: Callable[[Transaction, list[Item]], list[Done] | list[Deferred[Done]]]


@dataclass(slots=True)
class _Waiting:
    operation: Operation[Any, Any]
    item: Any
    future: "asyncio.Future[Any]"
    names: Sequence[str] = ()
    alone: bool = False
    result: Any = None
    error: Exception | None = None


class Writer:
    """Runs operations on the database of `engine` in a thread of its own."""

    def __init__(self, engine: Engine) -> None:
        self._error: str | None = None  # of the last commit
        self._told: str | None = None
        self._last_reason: str | None = None
        self.failed_at = float("-inf")  # on the monotonic clock
        self._engine = engine
        self.bound: Any = None  # what features do in its transactions: see queue/hooks.py
        self._gathered: list[_Waiting] = []
        self._handing_over = False
        self._committing = False
        self._has_run = threading.Event()  # all operations of the open transaction
        self._batches: queue.SimpleQueue[list[_Waiting] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = self._begin()

    def _begin(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="premblyd-writer", daemon=True)
        thread.start()
        return thread

    def submit(
        self,
        operation: Operation[Item, Done],
        item: Item,
        names: Sequence[str] = (),
        *,
        alone: bool = False,
    ) -> "asyncio.Future[Done]":
        """Run `operation` with `item` in the next transaction. The future resolves after the
        commit; it fails with StoreUnavailableError when nothing could be kept.

        `names`: what the item needs locked (`Transaction.lock`). The transaction takes the names
        of all its items at once, before any runs: hosts that take names one by one, or after they
        have changed rows, wait for each other. What knows only from the record what to lock runs
        `alone`, in a transaction of its own.
        """
        waiting = _Waiting(operation, item, self._loop.create_future(), names, alone)
        self._gathered.append(waiting)
        self._hand_over_soon()
        return waiting.future

    def withdraw(self, future: "asyncio.Future[Any]") -> None:
        """Cancel what was submitted, if no transaction has begun with it. Else it may be kept."""
        for place, waiting in enumerate(self._gathered):
            if waiting.future is future:
                del self._gathered[place]
                future.cancel()
                return

    def call(
        self,
        work: Callable[[Transaction], Done],
        step: Step = Step.CLAIMS,
        names: Sequence[str] = (),
        *,
        alone: bool = False,
    ) -> "asyncio.Future[Done]":
        """Run `work` in the next transaction, on its own there. The rest is as of `submit`. Of what
        is Deferred, the future has what is read."""
        future: asyncio.Future[Done] = self.submit(_CALLS[step], work, names, alone=alone)
        return future

    @property
    def digest_key(self) -> bytes:
        """The key of the record's digests."""
        return self._engine.digest_key

    async def close(self) -> None:
        """Commit what waits, then close the database."""
        while self._gathered or self._committing:
            await asyncio.sleep(0.001)
        self._batches.put(None)
        await asyncio.to_thread(self._thread.join)

    def _hand_over_soon(self) -> None:
        """Hand over at the end of this round of the loop: what else it brings joins the
        transaction."""
        if not self._handing_over:
            self._handing_over = True
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._handing_over = False
        if self._gathered and not self._committing:
            count = _batch_size(self._gathered)
            batch, self._gathered = self._gathered[:count], self._gathered[count:]
            self._committing = True
            self._has_run.clear()
            self._pass_on(batch)
            if self._engine.runs_here and _is_of_some_webhooks(batch):
                # Each statement gives the interpreter away, and would then wait for the loop to do
                # so too; and two threads that take turns slow each other down. With 16 senders this
                # takes a tenth off what a webhook needs of the processor. Who waits for the disk is
                # the writer, as ever.
                self._has_run.wait(LET_RUN_S)

    def _committed(self, batch: list[_Waiting]) -> None:
        self._committing = False
        if any(each.operation.step is not Step.FINISHES for each in self._gathered):
            self._hand_over()
        for waiting in batch:
            if waiting.future.done():
                continue
            if waiting.error is not None:
                waiting.future.set_exception(waiting.error)
            else:
                waiting.future.set_result(waiting.result)
        # No sender waits for what hooks reported. The claim joins it that follows the last one: a
        # third fewer commits, each of which is several trips to a server.
        if self._gathered:
            self._hand_over_soon()

    def _pass_on(self, batch: list[_Waiting]) -> None:
        """Have the thread do `batch`."""
        self._batches.put(batch)

    def _run(self) -> None:
        while batch := self._batches.get():
            self._do(batch)
            item_count = len(batch)
            del batch  # else its bodies would stay in memory until the next batch comes
            self._tidy_up(item_count)
        self._engine.close()

    def _do(self, batch: list[_Waiting]) -> None:
        """Commit `batch`, and tell the loop."""
        try:
            self._commit(batch)
        # Whatever was raised, the futures of the batch must end, and the thread must go on.
        except Exception as error:  # noqa: BLE001
            _fail(batch, StoreUnavailableError(type(error).__name__))
            tell("store.operation_failed", cause=error)
        self._has_run.set()  # or failed before
        self._loop.call_soon_threadsafe(self._committed, batch)

    def _tidy_up(self, item_count: int) -> None:
        try:
            self._engine.tidy_up(item_count)
        # Whatever it is (out of memory, say), what was committed is safe and the thread must go on.
        except Exception as error:  # noqa: BLE001
            tell("store.operation_failed", cause=error)

    def _commit(self, batch: list[_Waiting], *, is_rest: bool = False) -> None:
        """Commit `batch` as one transaction, or each item alone when an operation raises.
        `is_rest`: what webhooks do not need has failed just now, so all is not well."""

        def work(transaction: Transaction) -> None:
            transaction.bound = self.bound
            _run_operations(batch, transaction)
            self._has_run.set()

        began = time.perf_counter()
        try:
            self._engine.transact(work)
        except StoreUnavailableError as error:
            others = [each for each in batch if each.operation.step not in _VITAL]
            if others and isinstance(error, TableUnavailableError):
                self._error = error.reason
                self._tell()
                _fail(others, error)
                if vital := [each for each in batch if each.error is None]:
                    self._commit(vital, is_rest=True)  # they may not need it
            else:
                self._report(error.reason)
                _fail(batch, error)
        # Whatever an operation raises must fail its own items, and not the writer.
        except Exception as error:  # noqa: BLE001
            if len(batch) > 1:
                for waiting in batch:
                    self._commit([waiting])
            elif isinstance(error, MemoryError):  # or SQLite's; there may be memory again
                self._report(_NO_MEMORY)
                _fail(batch, StoreUnavailableError(_NO_MEMORY))
            else:
                tell("store.operation_failed", cause=error)
                is_refused = isinstance(error, self._engine.refusals)
                _fail(batch, ValueRefusedError() if is_refused else error)
        else:
            for waiting in batch:
                if isinstance(waiting.result, Deferred):
                    waiting.result = waiting.result.read()
            tell("transaction.committed", is_logged=False, duration_s=time.perf_counter() - began)
            if (self._error or self._told) and not is_rest:
                is_webhook = any(each.operation.step is Step.ARRIVALS for each in batch)
                self._report(None, is_webhook=is_webhook)

    @property
    def last_error(self) -> str | None:
        """Why the last commit failed; None: all is well."""
        return self._error

    def recent_error(self) -> str | None:
        """Return why a commit failed within RECENT_S, or the last one; None: none did. On a full
        disk a small one may still find room where those of webhooks do not."""
        is_recent = time.monotonic() - self.failed_at < RECENT_S
        return self._last_reason if is_recent else self.last_error

    def _report(self, reason: str | None, *, is_webhook: bool = False) -> None:
        if reason:
            self.failed_at = time.monotonic()
            self._last_reason = reason
        self._error = reason
        self._tell(is_webhook=is_webhook)

    def _tell(self, *, is_webhook: bool = False) -> None:
        """Log what has changed. It is well again when a webhook was stored, or nothing has failed
        for RECENT_S: see `recent_error`."""
        reason = self.last_error
        if reason is None and not is_webhook and self.recent_error() is not None:
            return
        if reason != self._told:
            if reason:
                tell("store.unavailable", reason=reason)
            else:
                tell("store.recovered")
        self._told = reason


def _batch_size(gathered: list[_Waiting]) -> int:
    """Return how many of `gathered` the next transaction takes."""
    name_count = 0
    for place, waiting in enumerate(gathered[:MAX_BATCH]):
        name_count += len(waiting.names)
        if waiting.alone or name_count > MAX_NAMES:
            return max(place, 1)
    return min(len(gathered), MAX_BATCH)


def _run_operations(batch: list[_Waiting], transaction: Transaction) -> None:
    """Run the operations of `batch` in the order of their steps, each once for all its items."""
    if names := {name for waiting in batch for name in waiting.names}:
        transaction.lock(names)
    groups: dict[Operation[Any, Any], list[_Waiting]] = {}
    for waiting in batch:
        groups.setdefault(waiting.operation, []).append(waiting)
    for operation in sorted(groups, key=attrgetter("step")):
        group = groups[operation]
        results = operation.run(transaction, [waiting.item for waiting in group])
        for waiting, result in zip(group, results, strict=True):
            waiting.result = result


def _is_of_some_webhooks(batch: list[_Waiting]) -> bool:
    """Return whether `batch` has webhooks, several of them and not many, and nothing that may take
    long."""
    steps = {each.operation.step for each in batch}
    return len(batch) in SOME and Step.ARRIVALS in steps and max(steps) <= Step.CLAIMS


def _fail(batch: list[_Waiting], error: Exception) -> None:
    without_frames(error)
    for waiting in batch:
        waiting.error = error


def _run_each(transaction: Transaction, works: list[Callable[[Transaction], Any]]) -> list[Any]:
    return [work(transaction) for work in works]


_CALLS: dict[Step, Operation[Callable[[Transaction], Any], Any]] = {
    step: Operation(step, _run_each) for step in Step
}
_VITAL = (Step.ARRIVALS, Step.PROOF)
_NO_MEMORY = "there is not enough memory"
