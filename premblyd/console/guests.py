"""The console's connections: a stranger who fills them keeps no operator out."""

from collections import Counter

from tornado.iostream import IOStream

FEWEST = 8  # of an address: a browser opens six at once


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

    def admit(self, stream: IOStream) -> None:
        """Let a connection stay: it has brought an operator's session."""
        if self._strangers.pop(stream, None) is not None:
            self._operators.add(stream)

    def _forget_closed(self) -> None:
        self._strangers = {
            stream: address for stream, address in self._strangers.items() if not stream.closed()
        }
        self._operators = {stream for stream in self._operators if not stream.closed()}
        self._asking = {stream for stream in self._asking if not stream.closed()}
        self._answered = {stream for stream in self._answered if not stream.closed()}
