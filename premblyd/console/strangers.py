"""What keeps strangers out: requests that another site has a browser send, or by a name that is not
the console's (DNS rebinding); guesses of the password; and connections, of which a stranger who
fills them keeps no operator out."""

import asyncio
import ipaddress
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from tornado.iostream import IOStream

from premblyd.config.console import Console

OWN_SITES = frozenset({"same-origin", "none"})  # none: the person typed it
PERIOD_S = 900.0
EACH, ALL = 5, 50  # wrong passwords within PERIOD_S
MAX_SENDERS = 1000
FEWEST = 8  # connections of an address: a browser opens six at once


def is_own_host(host: str, settings: Console) -> bool:
    """Return whether `host`, a request's header, names this console: localhost, an address, the
    host that it listens on, or that of `url`. A site that resolves its own name to this machine
    comes with that name."""
    name = _hostname(host)
    if name is None:
        return False
    if name in {"localhost", settings.listen.host.lower()} or is_public_name(host, settings):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_public_name(host: str, settings: Console) -> bool:
    """Return whether `host` is that of `url`."""
    return settings.url is not None and _hostname(host) == urlsplit(settings.url).hostname


def is_own_page(headers: Mapping[str, str], host: str, settings: Console) -> bool:
    """Return whether a page of the console itself sent this request. Old browsers send none of
    these headers, and browsers send Sec-Fetch-Site to no plain http:// but localhost's."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None and site not in OWN_SITES:
        return False
    origin = headers.get("Origin")
    if origin is None:
        return True
    # A proxy may pass another Host on, so `url` counts too.
    return origin in {f"http://{host}", f"https://{host}"} or origin == settings.url


def is_safe_target(path: str) -> bool:
    """Return whether `path` leads to a page of the console, and to no other site."""
    return path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


class Guesses:
    """The wrong passwords of late. Links are not counted: nobody guesses 256 bits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all: deque[float] = deque()
        self._by_sender: dict[str, deque[float]] = {}

    def wait_s(self, sender: str) -> int:
        """Return for how many seconds `sender` may not try a password; 0: now."""
        now = self._clock()
        own = self._by_sender.get(sender, deque())
        return max(_wait_s(self._all, ALL, now), _wait_s(own, EACH, now))

    def add(self, sender: str) -> None:
        """Count a try of `sender`: before it is judged, so that many at once count too."""
        now = self._clock()
        while len(self._by_sender) >= MAX_SENDERS:
            del self._by_sender[next(iter(self._by_sender))]  # the oldest; `_all` goes on
        for guesses in (self._all, self._by_sender.setdefault(sender, deque())):
            _forget(guesses, now)
            guesses.append(now)

    def forgive(self, sender: str) -> None:
        """Take back the last try of `sender`: it was right."""
        if own := self._by_sender.get(sender):
            own.pop()
        if self._all:
            self._all.pop()


def _wait_s(guesses: deque[float], limit: int, now: float) -> int:
    _forget(guesses, now)
    return 0 if len(guesses) < limit else int(guesses[-limit] + PERIOD_S - now) + 1


def _forget(guesses: deque[float], now: float) -> None:
    while guesses and guesses[0] <= now - PERIOD_S:
        guesses.popleft()


class Guests:
    """Who is connected: operators, whose session has been seen on their connection, and strangers.
    A new connection gets in, and a stranger's has to go for it, which has no whole request: of the
    address that has the most, the oldest, and before all others one that has had its answer."""

    def __init__(self) -> None:
        self._strangers: dict[IOStream, str] = {}  # the oldest first, each with its address
        self._operators: set[IOStream] = set()
        self._asking: set[IOStream] = set()  # those whose request is being answered
        self._answered: set[IOStream] = set()  # those that have had an answer, and may be gone

    def welcome(self, stream: IOStream, address: str, limit: int) -> bool:
        """Return whether a new connection may stay, of `limit` in all: not, where all others are
        operators' or have asked for something. Of an address, a quarter of these may be
        strangers'."""
        self._forget_closed()
        idle = [(one, own) for one, own in self._strangers.items() if one not in self._asking]
        of_each = Counter(self._strangers.values())
        if of_each[address] >= max(FEWEST, limit // 4):
            idle = [(one, own) for one, own in idle if own == address]
        elif len(self._strangers) + len(self._operators) < limit:
            self._strangers[stream] = address
            return True
        if not idle:
            return False
        most = max(of_each[own] for _, own in idle)
        candidates = [one for one, own in idle if of_each[own] == most]
        oldest = next((one for one in candidates if one in self._answered), candidates[0])
        del self._strangers[oldest]
        oldest.close()
        self._strangers[stream] = address
        return True

    def begin(self, stream: IOStream) -> None:
        """Let a connection stay for as long as its request is answered."""
        self._asking.add(stream)

    def end(self, stream: IOStream) -> None:
        """Its request is answered."""
        self._asking.discard(stream)
        self._answered.add(stream)

    async def answered(self, within_s: float) -> None:
        """Wait until all who have asked have their answer, at most so long."""
        until_s = time.monotonic() + within_s
        while True:
            await asyncio.sleep(0.01)  # before the first look: who was just accepted is read then
            self._forget_closed()
            if not self._asking or time.monotonic() > until_s:
                return

    def admit(self, stream: IOStream) -> None:
        """Let a connection stay: it has brought an operator's session."""
        if self._strangers.pop(stream, None) is not None:
            self._operators.add(stream)

    def _forget_closed(self) -> None:
        self._strangers = {
            stream: address for stream, address in self._strangers.items() if not stream.closed()
        }
        for streams in (self._operators, self._asking, self._answered):
            streams -= {stream for stream in streams if stream.closed()}
