"""The daemon's loop that deletes expired data beside its other work: small transactions with gaps
between them, on one of several hosts.

`Round` says what is to be done next, for the loop and for `premblyd record prune`.
"""

import asyncio
import functools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

from premblyd.features.keeping import removing, retention
from premblyd.features.keeping.retention import BATCH, Bookmark, Done, Remover, Walk
from premblyd.features.keeping.settings import Retention
from premblyd.features.keeping.tables import Removed
from premblyd.ground import loops
from premblyd.ground.errors import StoreUnavailableError
from premblyd.ground.telemetry import tell
from premblyd.ground.times import HOUR_MS, Clock
from premblyd.queue import heartbeat
from premblyd.store.engine import Database, Transaction
from premblyd.store.writer import Step, Writer

FIRST_S = 10.0  # after the start: what came meanwhile goes first
REST_S = 60.0  # between two rounds
AGAIN_S = 1.0  # after a portion that failed, or while another is at work
MIN_GAP_S = 0.02  # after one that has changed something
MIN_GAP_BESIDE_S = 0.15  # a daemon looks again whether it may write: see record/operating.py
MAX_GAP_S = 2.0
GAP_RATIO = 4  # of a gap to the transaction before it
LEAST, MOST = 10, 50  # events in a transaction, as long as it takes
LONG_S = 0.008
MOST_PUT_OFF = 20  # portions of what was put off, in each round of each class
EVENTLESS_EVERY_MS = 6 * HOUR_MS
SET_MS = 60_000  # a clock that was set by more: what was received meanwhile may be out of order
ONE_BY_ONE, LEAVE_IT = 1, 2  # tries: one event may be what nobody foresaw; that one is put off
Work = Callable[[Transaction], Done]


class Round:
    """All that is to be removed now: `work`, in a transaction, then `take` what it returned, until
    there is no more work. `is_whole`: also all that was put off, and not only some of it, where
    there is very much."""

    def __init__(self, settings: Retention, *, with_eventless: bool, is_whole: bool = True) -> None:
        self._settings = settings
        self._most_put_off = None if is_whole else MOST_PUT_OFF
        self._put_off = 0  # portions of this walk
        self._left: deque[Walk | int] = deque(retention.walks(settings))
        if with_eventless:
            self._left += removing.eventless_kinds(settings)
        self._after: Bookmark | None = None
        self._tries = 0  # of this portion that failed
        self._most = BATCH
        self.failures = 0  # events that could not be removed, and were put off
        self.removed: Counter[Removed] = Counter()
        self.freed_bytes: Counter[Removed] = Counter()

    @property
    def has_work(self) -> bool:
        """Whether there is more to do."""
        return bool(self._left)

    def work(self, now_ms: int) -> Work:
        """Return what is to be done next."""
        first = self._left[0]
        if isinstance(first, int):
            return functools.partial(self._remove_eventless, kind=first, now_ms=now_ms)
        remover = Remover(
            retention=self._settings,
            now_ms=now_ms,
            most=1 if self._tries else self._most,
            leaves_all=self._tries == LEAVE_IT,
        )
        return functools.partial(remover.remove, walk=first, after=self._after)

    def pace(self, took_s: float) -> None:
        """Have the next transactions shorter, or longer, by how long one took that has changed
        something: that long, a webhook may have waited for it."""
        if took_s > LONG_S:
            self._most = max(LEAST, self._most * 2 // 3)
        elif took_s < LONG_S / 2:
            self._most = min(MOST, self._most + 1)

    def take(self, done: Done) -> None:
        """Take in what was done."""
        if done.is_busy:
            return
        first = self._left[0]
        is_last = not done.is_more
        if isinstance(first, Walk):
            self.removed[first.removed] += done.count
            self.freed_bytes[first.removed] += done.freed_bytes
            if first.is_of_put_off:  # the last to meet what failed before
                self.failures += self._tries == LEAVE_IT
                self._put_off += 1
                is_last = is_last or self._put_off == self._most_put_off
        self._tries = 0
        self._after = done.to
        if is_last:
            self._left.popleft()
            self._after = None
            self._put_off = 0

    def failed(self) -> bool:
        """Take in that the work failed by its own fault; return whether it is worth while to go
        on."""
        can_go_on = isinstance(self._left[0], Walk) and self._tries < LEAVE_IT
        self._tries = min(self._tries + 1, LEAVE_IT)
        return can_go_on

    def _remove_eventless(self, transaction: Transaction, kind: int, now_ms: int) -> Done:
        if not transaction.try_lock(retention.LOCK):
            return Done(is_busy=True, is_more=True)
        after_id = self._after.row_id if self._after else 0
        last = removing.remove_eventless(transaction, kind, after_id, self._settings, now_ms)
        return Done(to=Bookmark(0, last or 0), is_more=last is not None)


def work_off(database: Database, round_: Round, now_ms: int) -> Iterator[Done]:
    """Do all of a round on a command's own connection, beside a daemon, and yield what each
    transaction did. Raise StoreUnavailableError when it can't."""
    database.transact(functools.partial(removing.end_what_expired, now_ms=now_ms))
    while round_.has_work:
        began = time.monotonic()
        try:
            done = database.transact(round_.work(now_ms))
        except StoreUnavailableError:
            raise
        # A fault of ours: try fewer at once, then leave them as if they waited.
        except Exception as error:
            if not round_.failed():
                raise
            tell("retention.failed", cause=error)
            continue
        round_.take(done)
        took_s = time.monotonic() - began
        yield done
        time.sleep(gap_s(done, took_s, MIN_GAP_BESIDE_S))


def gap_s(done: Done, took_s: float, least_s: float = MIN_GAP_S) -> float:
    """Return how long to do nothing after what took so long: the daemon has one processor for its
    webhooks, and one thread that writes."""
    if done.is_busy:
        return AGAIN_S
    own_s = GAP_RATIO * took_s
    return min(max(least_s, own_s), MAX_GAP_S) if done.count else own_s


class Sweeping:
    """Removes what has expired: a round now and then, for as long as this daemon is the one that
    does it (`is_leader`)."""

    def __init__(self, writer: Writer, clock: Clock, *, is_leader: Callable[[], bool]) -> None:
        self._writer = writer
        self._clock = clock
        self._is_leader = is_leader
        self._settings = Retention()
        self._begins_anew = True
        self._eventless_ms: int | None = None  # when these were looked for
        self._offset_ms = clock.offset_ms
        self._wake = asyncio.Event()

    def configure(self, settings: Retention) -> None:
        """Remove by these periods from the next round on."""
        if settings != self._settings:
            self._settings = settings
            self._begins_anew = True
            self._wake.set()

    async def run(self) -> None:
        """Delete expired data, until cancelled. After a round that fails, continue with the
        next."""
        await asyncio.sleep(FIRST_S)
        await loops.repeat(self.round, REST_S, wake=self._wake, failed="retention.failed")

    async def round(self) -> float:
        """Remove all that has expired; return the seconds until the next round."""
        if not self._is_leader():
            self._begins_anew = True
            return REST_S
        jump_ms = self._clock.offset_ms - self._offset_ms
        self._offset_ms = self._clock.offset_ms
        # Some may have come that are not in order: from another host, or while the clock was wrong.
        if self._begins_anew or abs(jump_ms) > SET_MS:
            await self._writer.call(retention.begin_anew, Step.EVIDENCE)
        if self._begins_anew:
            self._begins_anew = False
            self._eventless_ms = None
        await self._sweep(self._settings)
        return REST_S

    async def _sweep(self, settings: Retention) -> None:
        counted = functools.partial(heartbeat.counted_ms, wall_ms=self._clock.now_ms())
        now_ms = await self._writer.call(counted, Step.EVIDENCE)
        end = functools.partial(removing.end_what_expired, now_ms=now_ms)
        await self._writer.call(end, Step.EVIDENCE)
        since_ms = self._eventless_ms
        with_eventless = since_ms is None or not 0 <= now_ms - since_ms < EVENTLESS_EVERY_MS
        round_ = Round(settings, with_eventless=with_eventless, is_whole=False)
        try:
            while round_.has_work and settings is self._settings and self._is_leader():
                await asyncio.sleep(await self._step(round_, now_ms))
        finally:
            _tell_removed(round_)
        if with_eventless and not round_.has_work:
            self._eventless_ms = now_ms

    async def _step(self, round_: Round, now_ms: int) -> float:
        """Do the next work of a round; return the seconds until that behind it."""
        began = time.monotonic()
        try:
            # Alone: in it names are locked, and webhooks may have locked others by then.
            done = await self._writer.call(round_.work(now_ms), Step.EVIDENCE, alone=True)
        except StoreUnavailableError:
            raise
        except Exception:  # the writer has logged it
            if not round_.failed():
                raise
            return AGAIN_S
        took_s = time.monotonic() - began
        if done.count:
            round_.pace(took_s)
        round_.take(done)
        return gap_s(done, took_s)


def _tell_removed(round_: Round) -> None:
    for removed, count in sorted(round_.removed.items()):
        if count:
            freed_bytes = round_.freed_bytes[removed]
            tell("retention.removed", removed=removed, count=count, freed_bytes=freed_bytes)
