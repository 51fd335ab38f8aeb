"""Limits on guessing the password: of each sender, and of all together."""

import time
from collections import deque
from collections.abc import Callable

PERIOD_S = 900.0
EACH, ALL = 5, 50  # wrong passwords within PERIOD_S
MAX_SENDERS = 1000


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
        waits = (_wait_s(self._all, ALL, now), _wait_s(own, EACH, now))
        return max(waits)

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
