"""A daemon among others on one database: it tells them that it lives, watches them, and takes over
from lost ones. Begin with `Membership`.

`Observation`, what it sees of the others, decides who is lost; `Liveness`, what it knows itself,
whether the others must still count it as alive. Both are pure: time is given. `SharedHosts` writes
down what they tell, together with what becomes of what a lost one ran.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from premblyd.features.postgresql.sharedclock import SharedClock
from premblyd.ground import loops
from premblyd.ground.errors import StoreUnavailableError
from premblyd.ground.telemetry import tell
from premblyd.ground.times import boot_s
from premblyd.queue.jobs import Job
from premblyd.queue.queue import RUNNING_OF, Queue
from premblyd.queue.register import (
    END,
    IS_ALIVE,
    RUNNING,
    Hosts,
    Identity,
    Member,
    OwnClaim,
    interrupt_all,
)
from premblyd.run.starting import Permit
from premblyd.run.strays import kill_marked
from premblyd.store.engine import Row, Statement, Transaction, param, update
from premblyd.store.states import LOST
from premblyd.store.tables import IS_LAST_ATTEMPT, Attempt, Host

SURE = 0.5  # of lost_after: until then a claim needs no proof after a beat
KEPT = 0.9  # and until then hooks run on: they must have ended when others start them


class SharedTime(NamedTuple):
    """A time by two clocks: `times.boot_s`, and the database's as it is known here."""

    boot_s: float
    shared_ms: int


class Liveness:
    """Whether a daemon counts as alive. The others take it for lost once they saw no beat of it for
    `lost_after`. Here that time is counted from when a beat was asked for, which is earlier, and by
    a clock that counts the machine's sleep. No clock of this machine counts how long it was paused,
    if it is a virtual one: the database's tells that, as soon as it is read again."""

    def __init__(self, lost_after_s: float) -> None:
        self._sure_s = lost_after_s * SURE
        self._kept_s = lost_after_s * KEPT
        self._beaten_at_s = float("-inf")
        self._lost_at_s = float("-inf")
        self._has_let_go = False

    def beaten(self, asked: SharedTime) -> None:
        """Take in that a beat counted which was asked for then, or another sign of life: hooks may
        start again from here."""
        self._beaten_at_s = max(self._beaten_at_s, asked.boot_s)
        self._has_let_go = False

    def lost(self, at: SharedTime) -> None:
        """Note that the others have declared this daemon lost: nothing from before is sure."""
        self._lost_at_s = at.boot_s
        self._beaten_at_s = float("-inf")

    def is_sure(self, claimed: SharedTime, now: SharedTime) -> bool:
        """Return whether nobody else can have taken over what was claimed then."""
        since_s = min(claimed.boot_s, self._beaten_at_s)
        age_s = max(now.boot_s - since_s, (now.shared_ms - claimed.shared_ms) / 1000)
        return claimed.boot_s > self._lost_at_s and age_s < self._sure_s

    def must_let_go(self, now: SharedTime) -> bool:
        """Return whether others may soon start what runs here: this daemon has not beaten for too
        long, and has not let go of it since."""
        return not self._has_let_go and now.boot_s - self._beaten_at_s >= self._kept_s

    def let_go(self) -> None:
        """Take in that nothing runs here any more."""
        self._has_let_go = True


class Sighting(NamedTuple):
    """A daemon that works on the database, as its row in `host` shows it."""

    id: int
    worker: str
    name: str
    beat_count: int  # grows as long as it lives
    lost_after_ms: int | None = None  # as its row says; None: it says nothing


GAP = 0.5  # of `lost_after_s`: who has not looked for longer begins anew


@dataclass(slots=True)
class _Seen:
    beat_count: int
    at_s: float  # on the observer's monotonic clock


class Observation:
    """The others, as one daemon sees them.

    No clock of theirs is believed: who lives counts its beats, and is lost when the count has not
    grown for as long as its row says, while this daemon looked on without a gap. So after the
    database was away, or this daemon was stopped, nobody is lost at once. `lost_after_s`: of this
    daemon, and of hosts that name none.
    """

    def __init__(self, lost_after_s: float) -> None:
        self._lost_after_s = lost_after_s
        self._seen: dict[str, _Seen] = {}  # by worker: its number may become another's
        self._looked_at_s = float("-inf")
        self._first_id: int | None = None

    def look(self, hosts: Sequence[Sighting], at_s: float) -> list[Sighting]:
        """Take in what the database has of the hosts at `at_s`; return those that are lost."""
        if at_s - self._looked_at_s > self._lost_after_s * GAP:
            self._seen.clear()
        self._looked_at_s = at_s
        before, self._seen = self._seen, {}
        lost = []
        for host in hosts:
            seen = before.get(host.worker)
            if seen is None or seen.beat_count != host.beat_count:
                seen = _Seen(host.beat_count, at_s)
            elif at_s - seen.at_s >= self._after_s(host):
                lost.append(host)
            self._seen[host.worker] = seen
        alive = [host.id for host in hosts if host not in lost]
        self._first_id = min(alive, default=None)
        return lost

    def _after_s(self, host: Sighting) -> float:
        if host.lost_after_ms is None:
            return self._lost_after_s
        return host.lost_after_ms / 1000

    def is_leader(self, host_id: int) -> bool:
        """Return whether that host is the one that does what only one shall do, as far as the last
        look tells."""
        return self._first_id == host_id


class TakenOver(NamedTuple):
    """What was taken over from lost daemons: their deliveries are due now."""

    hosts: list[Sighting]
    delivery_ids: list[int]


class SharedHosts(Hosts):
    """The row of a daemon beside those of others."""

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
            return interrupt_all(transaction, transaction.rows(_ORPHANS), now_ms)

        return self._writer.call(operation)

    def take_over(self, lost: Sequence[Sighting], now_ms: int) -> "asyncio.Future[TakenOver]":
        """End those of `lost` that have not been seen since, and make due what they ran; so too
        what daemons run that ended before."""

        def operation(transaction: Transaction) -> TakenOver:
            ended = [
                sighting
                for sighting in lost
                if transaction.row(_AS_SEEN, **sighting._asdict())
                and transaction.change(END, worker=sighting.worker, ended_at_ms=now_ms, ended=LOST)
            ]
            return TakenOver(
                hosts=ended,
                delivery_ids=interrupt_all(transaction, transaction.rows(_ORPHANS), now_ms),
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


_KNOW = update(Host, "actions", where=Host.worker == param("worker"))
_AS_SEEN = Statement(
    Host.select(Host.id).where(
        Host.id == param("id"),
        Host.worker == param("worker"),  # a failover may have given its number to another
        Host.beat_count == param("beat_count"),
        IS_ALIVE,
    ),
    locks=True,
)
_REVIVE = Statement(
    Host.update(
        ended_at_ms=None, ended=None, forgotten_at_ms=None, beat_count=Host.beat_count + 1
    ).where(Host.worker == param("worker"))
)
# What runs under workers that don't live.
_ORPHANS = Statement(
    RUNNING.join(Attempt, on=IS_LAST_ATTEMPT).where(
        Attempt.worker.not_in(Host.select(Host.worker).where(IS_ALIVE))
    ),
    locks=True,
)
# What a beacon says and asks.
BEAT = Statement(
    Host.update(beat_count=Host.beat_count + 1, seen_at_ms=param("seen_at_ms")).where(
        Host.worker == param("worker"), IS_ALIVE
    )
)
SIGHTINGS = Statement(
    Host.select(Host.id, Host.worker, Host.name, Host.beat_count, Host.lost_after_ms).where(
        IS_ALIVE
    )
)

BEATS = 10  # within the time after which a host is lost
ANNOUNCE_EVERY_S = 0.02  # at most: one says as much as many
# A look for what runs under hosts that have ended: one of them may have been lost, have taken
# deliveries before it knew, and then ended for good.
ORPHANS_EVERY_S = 5.0
AGAIN_S = 0.5  # after the database could not be reached


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRead:
    """What the database's clock said between two times on this machine's monotonic clock."""

    now_ms: int
    asked_at_s: float
    answered_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a daemon learns each time that it tells the others it lives."""

    hosts: Sequence[Row]  # what `look` found
    is_known: bool  # False: the others took this daemon for lost, and ended its row
    time: TimeRead


class Beacon(Protocol):
    """A daemon's own connection to the database. On it the daemon tells others that it lives, and
    that deliveries are due. It works on the loop, and does not wait for what the writer does.

    All but `close` and `stir` raise StoreUnavailableError when the database can't; the next call
    connects anew.
    """

    async def read_time(self) -> TimeRead:
        """Read the database's clock."""

    async def beat(self, beat: Statement, look: Statement, worker: str) -> Beat:
        """Say by `beat` that `worker` lives (`seen_at_ms` is bound too), and `look` at all."""

    async def announce(self) -> None:
        """Tell the others that deliveries are due."""

    async def wait(self, timeout_s: float) -> bool:
        """Wait until others announce something, or `stir` is called, at most `timeout_s`. Return
        whether others have announced something."""

    def stir(self) -> None:
        """End a wait."""

    async def close(self) -> None: ...


class SharedClaim(OwnClaim):
    """A claim that others may have taken over."""

    def __init__(
        self,
        liveness: Liveness,
        clock: SharedClock,
        queue: Queue,
        job: Job,
        claimed_at_s: float,
    ) -> None:
        super().__init__(queue, job, claimed_at_s)
        self._liveness = liveness
        self._clock = clock
        self._claimed = SharedTime(claimed_at_s, job.started_at_ms)

    def is_sure(self) -> bool:
        return super().is_sure() and self._liveness.is_sure(self._claimed, _now(self._clock))

    async def prove(self) -> bool:
        asked = _now(self._clock)
        if not await super().prove():
            return False
        self._claimed = asked
        self._liveness.beaten(asked)
        return True


class Membership(Member):
    """This daemon's part among several hosts.

    `is_named`: by its configuration, since there are others, or will be. `wake` is told when
    deliveries may be due. `stop_fenced_hooks` gets a way to ask which claims
    are still this daemon's own, by their tokens, and ends the hooks of the others; it returns how
    many processes these were.
    """

    def __init__(
        self,
        hosts: SharedHosts,
        queue: Queue,
        own: Identity,
        beacon: Beacon,
        clock: SharedClock,
        *,
        lost_after_s: float,
        is_named: bool,
        wake: Callable[[], None],
        stop_fenced_hooks: Callable[[Callable[[], Awaitable[Collection[str]]]], Awaitable[int]],
    ) -> None:
        super().__init__(hosts, queue, clock)
        self._hosts: SharedHosts = hosts
        self._clock: SharedClock = clock
        self._own = own
        self._beacon = beacon
        self._wake = wake
        self._stop_fenced_hooks = stop_fenced_hooks
        self._observation = Observation(lost_after_s)
        self._liveness = Liveness(lost_after_s)
        self._beat_every_s = lost_after_s / BEATS
        self._others: tuple[Sighting, ...] = ()
        self._may_have_others = is_named  # else from the first one that it sees
        self.is_leader = False  # while the database is away, whoever was it stays it
        self._must_announce = False
        self._announced_at_s = float("-inf")
        self._look_for_orphans_at_s = time.monotonic() + ORPHANS_EVERY_S
        self._repair: asyncio.Task[None] | None = None  # of what a beat has found
        self._is_cut_off = False
        self._known: set[str] = set()  # workers of other hosts that the log has named
        self._actions_to_tell: Sequence[str] | None = None

    def configure(self, actions: Sequence[str]) -> None:
        """The other hosts learn it with the next beat."""
        self._actions_to_tell = actions

    def claim(self, job: Job, claimed_at_s: float) -> OwnClaim:
        return SharedClaim(self._liveness, self._clock, self._queue, job, claimed_at_s)

    async def join(self) -> list[int]:
        """Become one of the hosts."""
        self._follow(await self._beacon.read_time())
        interrupted = await self._hosts.join(self._clock.now_ms())
        await self._beat()
        self._known = {host.worker for host in self._others}
        tell(
            "host.joined",
            name=self._own.name,
            worker=self._own.worker,
            others=[host.name for host in self._others],
        )
        return interrupted

    async def ended(self, workers: Collection[str]) -> set[str]:
        """Those of this host too that are dead, as no other host may know yet."""
        dead = {worker for worker in workers if _is_of_dead(worker, self._own.name)}
        return dead | await super().ended(workers)

    async def run(self) -> None:
        """Beat, watch and listen until the daemon ends."""
        watching = asyncio.create_task(
            loops.repeat(self._watch_own_hooks, AGAIN_S, failed=self._tell_host_failed)
        )
        try:
            await loops.repeat(self._round, AGAIN_S, failed=self._tell_host_failed)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _round(self) -> float:
        try:
            await self._beat()
            self._tell_new()
            await self._tell_actions()
            self._tell_cut_off(None)
            await self._listen(time.monotonic() + self._beat_every_s)
        except StoreUnavailableError as error:
            self._tell_cut_off(error)
            return min(AGAIN_S, self._beat_every_s)
        return 0

    def _tell_host_failed(self, error: Exception) -> None:
        tell("host.failed", cause=error)

    async def leave(self) -> None:
        """Stop being one of the hosts: what could not be finished here is due elsewhere at once."""
        if self._repair is not None:
            await asyncio.wait([self._repair])
        try:
            await self._hosts.leave(self._clock.now_ms())
            await self._beacon.announce()
        except StoreUnavailableError:  # the others will take it for lost
            pass
        await self._beacon.close()

    def announce(self) -> None:
        if not self._must_announce:
            self._must_announce = True
            self._beacon.stir()

    async def _listen(self, until_s: float) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            pause_s = self._announced_at_s + ANNOUNCE_EVERY_S - time.monotonic()
            if self._must_announce and pause_s <= 0:
                self._must_announce = False
                await self._beacon.announce()
                self._announced_at_s = time.monotonic()
                continue
            wait_s = min(left_s, pause_s) if self._must_announce else left_s
            if await self._beacon.wait(wait_s):
                self._wake()

    async def _watch_own_hooks(self) -> float:
        """End this daemon's hooks when it could not say for too long that it lives: others start
        them. One may have come since the last beat, that is not known here."""
        if self._may_have_others and self._liveness.must_let_go(_now(self._clock)):
            killed = await self._stop_fenced_hooks(_nothing)
            self._liveness.let_go()  # not before: what fails is done again
            tell("host.let_go", worker=self._own.worker, killed_processes=killed)
        return self._beat_every_s / 2

    async def _beat(self) -> None:
        asked = _now(self._clock)
        beat = await self._beacon.beat(BEAT, SIGHTINGS, self._own.worker)
        self._follow(beat.time)
        if beat.is_known:
            self._liveness.beaten(asked)
        else:
            self._liveness.lost(_now(self._clock))
        hosts = [Sighting(*row) for row in beat.hosts]
        lost = self._observation.look(hosts, beat.time.answered_at_s)
        own = [host for host in hosts if host.worker == self._own.worker]
        self._others = tuple(host for host in hosts if host.worker != self._own.worker)
        self._may_have_others = self._may_have_others or bool(self._others)
        self._set_leader(bool(own) and self._observation.is_leader(own[0].id))
        lost = [host for host in lost if host.worker != self._own.worker]
        if self._repair is not None and not self._repair.done():
            return
        if not beat.is_known:
            self._repair = asyncio.create_task(self._repaired(self._come_back()))
        elif lost or (self.is_leader and self._look_for_orphans_at_s <= time.monotonic()):
            self._repair = asyncio.create_task(self._repaired(self._take_over(lost)))

    def _follow(self, read: TimeRead) -> None:
        self._clock.follow(read.now_ms, read.asked_at_s, read.answered_at_s)

    async def _repaired(self, work: Awaitable[None]) -> None:
        try:
            await work
        except StoreUnavailableError:  # the writer has logged it; the next beat finds it again
            return
        # Whatever it is, it must not end the daemon: webhooks go on coming.
        except Exception as error:  # noqa: BLE001
            tell("host.failed", cause=error)

    async def _take_over(self, lost: list[Sighting]) -> None:
        self._look_for_orphans_at_s = time.monotonic() + ORPHANS_EVERY_S
        taken = await self._hosts.take_over(lost, self._clock.now_ms())
        for host in taken.hosts:
            tell("host.lost", name=host.name, worker=host.worker)
        if taken.delivery_ids:
            tell("host.taken_over", deliveries=len(taken.delivery_ids))
            self._wake()
            self.announce()

    async def _come_back(self) -> None:
        """Go on after the others took this daemon for lost: it was stopped, or could not reach the
        database."""
        killed = await self._stop_fenced_hooks(lambda: self._hosts.revive(self._clock.now_ms()))
        tell("host.fenced", worker=self._own.worker, killed_processes=killed)
        self._wake()

    async def _tell_actions(self) -> None:
        if (actions := self._actions_to_tell) is not None:
            await self._hosts.know(actions)
            if self._actions_to_tell is actions:
                self._actions_to_tell = None

    def _tell_new(self) -> None:
        for host in self._others:
            if host.worker not in self._known:
                tell("host.seen", name=host.name, worker=host.worker)
        self._known = {host.worker for host in self._others}

    def _set_leader(self, is_leader: bool) -> None:
        if is_leader and not self.is_leader:
            tell("host.first", name=self._own.name)
        self.is_leader = is_leader

    def _tell_cut_off(self, error: StoreUnavailableError | None) -> None:
        is_cut_off = error is not None
        if is_cut_off != self._is_cut_off:
            if error is None:
                tell("host.in_touch")
            else:
                tell("host.cut_off", reason=error.reason)
        self._is_cut_off = is_cut_off


def _is_of_dead(worker: str, name: str) -> bool:
    """Return whether a worker was a daemon of this host that is dead."""
    own, _, number = worker.rpartition(":")[0].rpartition(":")
    return own == name and not Path(f"/proc/{number}").exists()


def _now(clock: SharedClock) -> SharedTime:
    return SharedTime(boot_s(), clock.now_ms())


async def _nothing() -> Collection[str]:
    return ()


async def stop_fenced_hooks(
    permitted: Callable[[], Mapping[str, Permit]],
    still_own: Callable[[], Awaitable[Collection[str]]],
) -> int:
    """Kill the hooks of deliveries that other hosts have taken over, of those that are `permitted`
    by the tokens of their claims; return how many processes that were."""
    permits = dict(permitted())
    own = await still_own()
    lost = [permit for token, permit in permits.items() if token not in own]
    try:
        return kill_marked({mark for permit in lost for mark in permit.marks})
    finally:  # also when no process can be looked at now: others start these hooks
        for permit in lost:
            permit.revoke()
