"""Keeping strangers out: requests that another site makes a browser send, requests under another
host name (DNS rebinding) or in the proxy's name; and strangers who open many connections."""

import asyncio
import hmac
import ipaddress
import time
from collections import Counter
from collections.abc import Mapping
from urllib.parse import urlsplit

from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream

from premblyd.features.console.settings import SECRET_HEADER, Console, SignInProxy

OWN_SITES = frozenset({"same-origin", "none"})  # none: the person typed it
MAX_NAME = 100  # characters
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


def person_in(headers: HTTPHeaders, proxy: SignInProxy) -> str | None:
    """Return whom a request is from, if the proxy itself has sent it; None: it does not say, or
    names several."""
    secret = headers.get(SECRET_HEADER, "").encode("latin-1", "replace")
    if not hmac.compare_digest(secret, proxy.secret.reveal().encode()):
        return None
    names = headers.get_list(proxy.header)
    name = _decoded(names[0]).strip() if len(names) == 1 else ""
    return name if name.isprintable() and 0 < len(name) <= MAX_NAME else None


def _decoded(text: str) -> str:
    """Return a header's text, of which Tornado reads each byte as a letter, as the configuration
    has it; empty for what is no UTF-8. Who is named there must not come as anybody else (`*`)."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return ""


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
