"""What is in flight, and who gives way when it is full.

Whoever knows the path may hold room without a key, but only until another needs it: of what still
comes in, the slowest of the sender that holds the most gives way. What has come in whole stays.
"""

import enum
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

HEAD_BYTES = 1024  # what a head counts for beside the bytes of its body
SLOW_S = 1.0
# In that time no thousand heads can be read, so that one of them is older; two clients that are
# this quick do not end each other for ever.
QUICK_S = 0.02
MAX_CONNECTIONS = 4096


class Limit(enum.StrEnum):
    """What is full."""

    REQUESTS = enum.auto()
    BYTES = enum.auto()
    CONNECTIONS = enum.auto()


@dataclass(slots=True, eq=False)
class Share:
    """What a request or a connection holds. `give_way` ends it."""

    sender: str
    give_way: Callable[[Limit], None]
    since: float  # when what it holds came, on the average of its bytes, on the monotonic clock
    held_bytes: int = 0

    def receive(self, count: int, now: float) -> None:
        """Hold `count` bytes more."""
        self.held_bytes += count
        self.since += (now - self.since) * count / (HEAD_BYTES + self.held_bytes)


class Load:
    """The requests in flight, within bounds."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self._incoming: set[Share] = set()
        self._complete: set[Share] = set()

    def configure(self, max_requests: int, max_bytes: int) -> None:
        """Use these bounds from now on."""
        self._max_requests = max_requests
        self._max_bytes = max_bytes

    @property
    def requests(self) -> int:
        return len(self._incoming) + len(self._complete)

    def enter(self, share: Share) -> bool:
        """Count a request whose head is good; others give way. Return whether there is room."""
        excess = self.requests + 1 - self._max_requests
        if excess > 0:
            # Some more at once: to look for them costs 150 µs among a thousand.
            make_room(self._incoming, Limit.REQUESTS, excess, spare=self._max_requests // 16)
            if self.requests >= self._max_requests:
                return False
        self._incoming.add(share)
        return True

    def receive(self, share: Share, count: int) -> bool:
        """Count `count` bytes more of its body; others give way, or it does itself. Return whether
        there is room."""
        while (excess := self.held_bytes + count - self._max_bytes) > 0:
            holding = [one for one in self._incoming if one.held_bytes]
            if not make_room(holding, Limit.BYTES, excess):
                return False
            if share not in self._incoming:
                return False
        self.held_bytes += count
        share.receive(count, time.monotonic())
        return True

    def complete(self, share: Share) -> None:
        """From now on `share` gives way to nobody: its body is there."""
        self._incoming.discard(share)
        self._complete.add(share)

    def leave(self, share: Share) -> None:
        """Give back what `share` holds; once is enough, more does no harm."""
        self._incoming.discard(share)
        self._complete.discard(share)
        self.held_bytes -= share.held_bytes
        share.held_bytes = 0


def make_room(shares: Iterable[Share], limit: Limit, need: int, *, spare: int = 0) -> bool:
    """Have some of `shares` give way until there are `need` bytes or places, and while they are
    slow `spare` more. Return whether any did.

    If the slow hold the most, it is they. Of a sender that holds less than half of what the
    largest holds, nobody gives way.
    """
    now = time.monotonic()
    among = list(shares)
    slow = [share for share in among if now - share.since > SLOW_S]
    if 2 * _sum(slow, limit) >= _sum(among, limit):
        among = slow
        need += spare
    totals: Counter[str] = Counter()
    for share in among:
        totals[share.sender] += _size(share, limit)
    most = max(totals.values(), default=0)
    at_least_s = 0 if limit is Limit.CONNECTIONS else QUICK_S
    ending = [
        share
        for share in among
        if totals[share.sender] * 2 >= most and now - share.since > at_least_s
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
    """Return how many connections may be open: a good many more than requests, but no more than
    half of the files that may be, for hooks and the database need some too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(MAX_CONNECTIONS, 2 * max_requests)
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft // 2)
