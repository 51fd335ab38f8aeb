"""A quota a minute: what is within it may be done, what is beyond it is counted."""

MINUTE_S = 60


class Quota:
    """Allows something `per_minute` times a minute, and counts the excess. A minute begins when
    something is asked for after the last one is over."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._minute_began = float("-inf")
        self._count = 0
        self._excess = 0

    def allows(self, now: float) -> bool:
        """Count once more; return whether that is within the quota of this minute."""
        if now - self._minute_began >= MINUTE_S:
            self._minute_began, self._count = now, 0
        self._count += 1
        if self._count > self._per_minute:
            self._excess += 1
        return self._count <= self._per_minute

    def take_excess(self, now: float) -> int:
        """Return how many were beyond the quota, once their minute is over, and forget them."""
        if not self._excess or now - self._minute_began < MINUTE_S:
            return 0
        excess, self._excess = self._excess, 0
        return excess
