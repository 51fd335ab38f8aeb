"""A daemon among others on one database: it tells them that it lives, watches that they do, and
takes over from those that are lost.

Who is lost is decided by what one daemon sees of the others (`Observation`): pure, time is given.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from premblyd import loops
from premblyd.clock import SharedClock, boot_s
from premblyd.engines.engine import Beacon, TimeRead
from premblyd.errors import MoveAtWorkError, PremblydError, SchemaError, StoreUnavailableError
from premblyd.hosts import register
from premblyd.hosts.register import BEAT, SIGHTINGS, Hosts, Identity, Sighting
from premblyd.hosts.standing import Moment, Standing
from premblyd.occurrences import (
    DeliveriesTakenOver,
    HostCutOff,
    HostFenced,
    HostInTouch,
    HostIsFirst,
    HostJoined,
    HostLetGo,
    HostLost,
    HostSeen,
    HostsFailed,
    Occurrence,
)
from premblyd.telemetry import tell

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
    daemon, and of those whose row does not say.
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


BEATS = 10  # within the time after which a host is lost
ANNOUNCE_EVERY_S = 0.02  # at most: one says as much as many
ORPHANS_EVERY_S = 5.0  # a look for what runs under hosts that have ended
AGAIN_S = 0.5  # after the database could not be reached


class Membership:
    """This daemon's part among the hosts: `join`, `run` as a loop, `leave` whatever has happened.

    `is_named`: by its configuration, since there are others, or will be. `wake` is told when
    deliveries may be due. `stop_fenced_hooks` gets a way to ask which claims
    are still this daemon's own, by their tokens, and ends the hooks of the others; it returns how
    many processes these were.
    """

    def __init__(
        self,
        hosts: Hosts,
        own: Identity,
        beacon: Beacon,
        clock: SharedClock,
        *,
        lost_after_s: float,
        is_named: bool,
        wake: Callable[[], None],
        stop_fenced_hooks: Callable[[Callable[[], Awaitable[Collection[str]]]], Awaitable[int]],
    ) -> None:
        self._hosts = hosts
        self._own = own
        self._beacon = beacon
        self._clock = clock
        self._wake = wake
        self._stop_fenced_hooks = stop_fenced_hooks
        self._observation = Observation(lost_after_s)
        self._standing = Standing(lost_after_s)
        self._beat_every_s = lost_after_s / BEATS
        self._others: tuple[Sighting, ...] = ()
        self._may_have_others = is_named  # else from the first one that it sees
        self._is_leader = False
        self._must_announce = False
        self._announced_at_s = float("-inf")
        self._looked_for_orphans_at_s = time.monotonic()
        self._repair: asyncio.Task[None] | None = None  # of what a beat has found
        self._was_cut_off = False
        self._known: set[str] = set()  # workers of other hosts that the log has named
        self._has_let_go = False  # since the last beat
        self._unfit: PremblydError | None = None  # why this daemon can't come back
        self._actions_to_tell: Sequence[str] | None = None

    def configure(self, actions: Sequence[str]) -> None:
        """Have the actions of these names from now on: the other hosts learn it with the next
        beat."""
        self._actions_to_tell = actions

    @property
    def is_leader(self) -> bool:
        """Whether this is the host that alone does what is to be done once. While the database is
        away, whoever was it stays it."""
        return self._is_leader

    def now(self) -> Moment:
        """Return the time, for `is_sure` and `proved`. Any thread may ask."""
        return Moment(boot_s(), self._clock.now_ms())

    def is_sure(self, claimed: Moment) -> bool:
        """Return whether no other host can have taken over what this one began to claim then. Any
        thread may ask."""
        return self._standing.is_sure(claimed, self.now())

    def proved(self, asked: Moment) -> None:
        """Take in that the database counted a sign of life of this daemon, asked for then."""
        self._standing.beaten(asked)

    async def join(self) -> list[int]:
        """Become one of the hosts. Return which deliveries are due because their daemon is dead:
        this daemon's own predecessor, say. Raise StoreUnavailableError when it can't."""
        self._follow(await self._beacon.read_time())
        dead = [
            predecessor.worker
            for predecessor in await self._hosts.predecessors()
            if register.is_dead(predecessor)
        ]
        interrupted = await self._hosts.join(dead, self._clock.now_ms())
        await self._beat()
        self._known = {host.worker for host in self._others}
        tell(
            HostJoined(
                name=self._own.name,
                worker=self._own.worker,
                others=[host.name for host in self._others],
            )
        )
        return interrupted

    async def run(self) -> None:
        """Beat, watch and listen until the daemon ends. Raise PremblydError when it must, because
        a newer one has changed the schema while this one was taken for lost, or the database is
        being moved."""
        watching = asyncio.create_task(
            loops.repeat(self._watch_own_hooks, AGAIN_S, failed=self._failure)
        )
        try:
            await loops.repeat(self._round, AGAIN_S, failed=self._failure)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _round(self) -> float:
        if self._unfit is not None:
            raise self._unfit
        try:
            await self._beat()
            self._tell_new()
            await self._tell_actions()
            self._tell_in_touch()
            await self._listen(time.monotonic() + self._beat_every_s)
        except StoreUnavailableError as error:
            self._tell_cut_off(error)
            return min(AGAIN_S, self._beat_every_s)
        return 0

    def _failure(self, cause: Exception) -> Occurrence:
        if cause is self._unfit:
            raise cause
        return HostsFailed(cause=cause)

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
        """Tell the other hosts that deliveries are due, soon."""
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
        lapsed = self._may_have_others and self._standing.has_lapsed(self.now())
        if lapsed and not self._has_let_go:
            killed = await self._stop_fenced_hooks(_nothing)
            self._has_let_go = True  # not before: what fails is done again
            tell(HostLetGo(worker=self._own.worker, killed_processes=killed))
        return self._beat_every_s / 2

    async def _beat(self) -> None:
        asked = self.now()
        beat = await self._beacon.beat(BEAT, SIGHTINGS, self._own.worker)
        self._follow(beat.time)
        if beat.is_known:
            self._standing.beaten(asked)
            self._has_let_go = False
        else:
            self._standing.lost(self.now())
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
        elif lost or self._must_look_for_orphans():
            self._repair = asyncio.create_task(self._repaired(self._take_over(lost)))

    def _follow(self, read: TimeRead) -> None:
        self._clock.follow(read.now_ms, read.asked_at_s, read.answered_at_s)

    def _must_look_for_orphans(self) -> bool:
        """Return whether it is time to look for what runs under hosts that have ended. That is so
        when one of them was lost, took deliveries before it knew, and then ended for good."""
        due = self._looked_for_orphans_at_s + ORPHANS_EVERY_S <= time.monotonic()
        return self._is_leader and due

    async def _repaired(self, work: Awaitable[None]) -> None:
        try:
            await work
        except StoreUnavailableError:  # the writer has logged it; the next beat finds it again
            return
        except (SchemaError, MoveAtWorkError) as error:
            self._unfit = error
        # Whatever it is, it must not end the daemon: webhooks go on coming.
        except Exception as error:  # noqa: BLE001
            tell(HostsFailed(cause=error))

    async def _take_over(self, lost: list[Sighting]) -> None:
        self._looked_for_orphans_at_s = time.monotonic()
        taken = await self._hosts.take_over(lost, self._clock.now_ms())
        for host in taken.hosts:
            tell(HostLost(name=host.name, worker=host.worker))
        if taken.delivery_ids:
            tell(DeliveriesTakenOver(deliveries=len(taken.delivery_ids)))
            self._wake()
            self.announce()

    async def _come_back(self) -> None:
        """Go on after the others took this daemon for lost: it was stopped, or could not reach the
        database."""
        killed = await self._stop_fenced_hooks(lambda: self._hosts.revive(self._clock.now_ms()))
        tell(HostFenced(worker=self._own.worker, killed_processes=killed))
        self._wake()

    async def _tell_actions(self) -> None:
        if (actions := self._actions_to_tell) is not None:
            await self._hosts.know(actions)
            if self._actions_to_tell is actions:
                self._actions_to_tell = None

    def _tell_new(self) -> None:
        for host in self._others:
            if host.worker not in self._known:
                tell(HostSeen(name=host.name, worker=host.worker))
        self._known = {host.worker for host in self._others}

    def _set_leader(self, is_leader: bool) -> None:
        if is_leader and not self._is_leader:
            tell(HostIsFirst(name=self._own.name))
        self._is_leader = is_leader

    def _tell_cut_off(self, error: StoreUnavailableError) -> None:
        if not self._was_cut_off:
            tell(HostCutOff(reason=error.reason))
        self._was_cut_off = True

    def _tell_in_touch(self) -> None:
        if self._was_cut_off:
            tell(HostInTouch())
        self._was_cut_off = False


async def _nothing() -> Collection[str]:
    return ()
