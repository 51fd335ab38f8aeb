"""The limits for requests in flight: their number, the bytes of their bodies, connections.

A client needs no key to take up room, only the path. So nobody keeps room that another needs while
the request is still coming in: when a bound is reached, the slowest request of the sender that
holds the most is ended. A request that has come whole is never ended.
"""

import enum
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

HEAD_BYTES = 1024  # what a head counts for beside the bytes of its body
SLOW_S = 1.0  # a share older than this is slow
# A request younger than this is never ended, or two quick clients could end each other for ever.
# When a bound is reached there is an older one: a thousand heads can't be read in this time.
QUICK_S = 0.02
MIN_CONNECTIONS = 4096  # open at once, where the limit of open files allows them


class Limit(enum.StrEnum):
    """Which bound was reached."""

    REQUESTS = enum.auto()
    BYTES = enum.auto()
    CONNECTIONS = enum.auto()


@dataclass(slots=True, eq=False)
class Share:
    """What a request or a connection uses of the limits."""

    sender: str
    give_way: Callable[[Limit], None]  # ends it
    since: float  # when it came; with a body, the average moment of its bytes (monotonic clock)
    held_bytes: int = 0


class InFlight:
    """The requests in flight and their bytes, within bounds."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self.shares: set[Share] = set()  # of all requests
        self._incoming: set[Share] = set()  # those of them that have not come whole

    def configure(self, max_requests: int, max_bytes: int) -> None:
        """Use these bounds from now on."""
        self._max_requests = max_requests
        self._max_bytes = max_bytes

    def enter(self, share: Share) -> bool:
        """Count a request whose head is good, for which others may give way. Return whether there
        is room."""
        excess = len(self.shares) + 1 - self._max_requests
        if excess > 0:
            # Some more at once: to find which requests give way takes 150 µs among a thousand.
            make_room(self._incoming, Limit.REQUESTS, excess, spare=self._max_requests // 16)
            if len(self.shares) >= self._max_requests:
                return False
        self.shares.add(share)
        self._incoming.add(share)
        return True

    def receive(self, share: Share, count: int) -> bool:
        """Count `count` bytes more of its body, for which others may give way, or `share` itself.
        Return whether there is room."""
        while (excess := self.held_bytes + count - self._max_bytes) > 0:
            holding = [other for other in self._incoming if other.held_bytes]
            if not make_room(holding, Limit.BYTES, excess) or share not in self._incoming:
                return False  # none gave way, or it did itself
        self.held_bytes += count
        share.held_bytes += count
        share.since += (time.monotonic() - share.since) * count / (HEAD_BYTES + share.held_bytes)
        return True

    def complete(self, share: Share) -> None:
        """Let `share` give way to nobody from now on: its body is there."""
        self._incoming.discard(share)

    def leave(self, share: Share) -> None:
        """Give back what `share` holds. To do it again does no harm."""
        self.shares.discard(share)
        self._incoming.discard(share)
        self.held_bytes -= share.held_bytes
        share.held_bytes = 0


def make_room(shares: Iterable[Share], limit: Limit, need: int, *, spare: int = 0) -> bool:
    """Let shares give way, the oldest first, until `need` bytes or places are free. Return whether
    any did.

    Where slow shares hold at least half, only slow ones give way, for `need` and `spare`. The
    shares of a sender that holds less than half of what the largest sender holds never do.
    """
    now = time.monotonic()
    candidates = list(shares)
    slow = [share for share in candidates if now - share.since > SLOW_S]
    if 2 * _sum(slow, limit) >= _sum(candidates, limit):
        candidates = slow
        need += spare
    totals: Counter[str] = Counter()
    for share in candidates:
        totals[share.sender] += _size(share, limit)
    largest = max(totals.values(), default=0)
    min_age_s = 0 if limit is Limit.CONNECTIONS else QUICK_S
    ending = [
        share
        for share in candidates
        if totals[share.sender] * 2 >= largest and now - share.since > min_age_s
    ]
    for share in sorted(ending, key=attrgetter("since")):
        if need <= 0:
            break
        need -= _size(share, limit)
        share.give_way(limit)
    return bool(ending)


def _size(share: Share, limit: Limit) -> int:
    return share.held_bytes if limit is Limit.BYTES else 1


def _sum(shares: Sequence[Share], limit: Limit) -> int:
    return sum(_size(share, limit) for share in shares)


def max_connections(max_requests: int) -> int:
    """Return how many connections may be open: many more than requests, but at most half of the
    files that this process may open, because hooks and the database need some too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    maximum = max(MIN_CONNECTIONS, 2 * max_requests)
    return maximum if soft == resource.RLIM_INFINITY else min(maximum, soft // 2)
