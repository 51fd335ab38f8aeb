"""For how long Prembly is asked whether an event is true: its API may know a result a little later
than its webhook says it.

Nobody ends that by setting a clock: the time since the first question is the kernel's, which counts
a suspend and is not set. A restart begins it anew; how often was asked is on record.
"""

import time

GRACE_S = 5 * 60.0
QUESTIONS = 4
# After so many questions: the fourth comes five minutes and twenty seconds after the first.
_WAITS_S = (20.0, 60.0, 240.0, GRACE_S)
MAX_REMEMBERED = 10_000


class Patience:
    """Since when Prembly is asked about which deliveries, as far as this process knows."""

    def __init__(self) -> None:
        self._since_s: dict[int, float] = {}

    def begin(self, delivery_id: int) -> None:
        """Prembly is asked about a delivery now; perhaps it was before."""
        if delivery_id not in self._since_s and len(self._since_s) >= MAX_REMEMBERED:
            del self._since_s[next(iter(self._since_s))]  # is asked for longer, in the worst case
        self._since_s.setdefault(delivery_id, _now_s())

    def end(self, delivery_id: int) -> None:
        """Nothing more is asked about a delivery."""
        self._since_s.pop(delivery_id, None)

    def is_over(self, delivery_id: int, asked: int) -> bool:
        """Return whether a delivery was asked about for long enough, and often enough: `asked`
        times with an answer that says nothing of it."""
        since_s = self._since_s.get(delivery_id, float("inf"))
        return asked >= QUESTIONS and _now_s() - since_s >= GRACE_S


def wait_s(asked: int) -> float:
    """Return how long to wait after the question with this number."""
    return _WAITS_S[min(max(asked, 1), len(_WAITS_S)) - 1]


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
