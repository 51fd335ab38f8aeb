"""So many of a kind a minute, and a count of those that were too many."""

MINUTE_S = 60


class Quota:
    """What may be done so often a minute. Minutes begin with the first time in each."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._minute_began = float("-inf")
        self._count = 0
        self._excess = 0

    def allows(self, now: float) -> bool:
        """Count once more; return whether it is among the first of its minute."""
        if now - self._minute_began >= MINUTE_S:
            self._minute_began, self._count = now, 0
        self._count += 1
        if self._count > self._per_minute:
            self._excess += 1
        return self._count <= self._per_minute

    def take_excess(self, now: float) -> int:
        """Return how many were too many, once their minute is over, and forget them."""
        if not self._excess or now - self._minute_began < MINUTE_S:
            return 0
        excess, self._excess = self._excess, 0
        return excess
