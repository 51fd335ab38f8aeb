"""When Prembly may be asked: a pace, and pauses while it can't answer. Times are in seconds of the
monotonic clock."""

import asyncio
import time

ALLOWED_FAILURES = 5  # in a row
FIRST_PAUSE_S = 10.0
MAX_PAUSE_S = 300.0
REFUSED_PAUSE_S = 300.0  # a wrong key does not become right by itself
MAX_RETRY_AFTER_S = 3600.0  # one odd header must not silence all questions for a day


class Pace:
    """Spreads questions evenly: never more than `rate` in a second, no burst after a rest, and none
    after a time in which the loop was busy with something else."""

    def __init__(self, rate: float) -> None:
        self._gap_s = 1 / rate
        self._next_at = float("-inf")
        self._waiting = asyncio.Lock()  # who comes first goes first

    async def turn(self) -> None:
        """Wait for a turn."""
        async with self._waiting:
            while (wait_s := self._next_at - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            self._next_at = time.monotonic() + self._gap_s


class Breaker:
    """Closed while Prembly answers. Opened by ALLOWED_FAILURES failures in a row, by a refusal, or
    at once by whoever asks for a pause; then each further failure lengthens the pause."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._open_until = float("-inf")
        # Whether it was opened and no answer has come since: then a single question is to show
        # whether Prembly answers again.
        self.circuit_open = False

    @property
    def is_close(self) -> bool:
        """Whether one more failure opens it."""
        return self.circuit_open or self._failures + 1 >= ALLOWED_FAILURES

    def wait_s(self, now: float) -> float:
        """Return for how long Prembly is not to be asked; 0: it may be."""
        return max(0.0, self._open_until - now)

    def succeeded(self) -> bool:
        """Note an answer. Return whether Prembly was thought unable to answer until now."""
        was_open, self.circuit_open = self.circuit_open, False
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        return was_open

    def failed(self, now: float, retry_after_s: float = 0) -> float:
        """Note a failure. Return the pause that begins now; 0: none, or it has begun already."""
        if self.wait_s(now) and not retry_after_s:
            return 0  # asked before the pause began
        self._failures += 1
        pause_s = min(retry_after_s, MAX_RETRY_AFTER_S)
        if self._failures >= ALLOWED_FAILURES or self.circuit_open:
            pause_s = max(pause_s, self._pause_s)
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
        return self._open(now, pause_s)

    def refused(self, now: float) -> float:
        """Note that Prembly refuses the key. Return the pause that begins now."""
        return self._open(now, REFUSED_PAUSE_S)

    def _open(self, now: float, pause_s: float) -> float:
        if pause_s:
            self.circuit_open = True
            self._open_until = max(self._open_until, now + pause_s)
        return pause_s
