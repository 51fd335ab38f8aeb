"""How many of an action's deliveries may wait here for its worker processes: a few, as long as each
line takes a moment. Without them a process has nothing to do from its answer until the commit that
claims the next delivery."""

from premblyd.queue.jobs import Lines

LINES = 4  # for each process, or as many as it takes at once
MOST_LINES = 100  # of an action: no claim takes more
QUICK_S, SLOW_S = 0.02, 0.04
STALL_S = 1.0  # without an answer: then what waits goes back to the queue
SMOOTHING = 8  # so many lines count about as much as all that were before


class Pace:
    """How long the lines of an action take."""

    def __init__(self) -> None:
        self.is_quick = False
        self._line_s = STALL_S

    def took(self, seconds: float) -> bool:
        """Note how long a line took. Return whether that changes if they are quick."""
        self._line_s += (seconds - self._line_s) / SMOOTHING
        was_quick = self.is_quick
        self.is_quick = self._line_s < (SLOW_S if was_quick else QUICK_S)
        return self.is_quick is not was_quick

    def stalled(self) -> None:
        """Take the lines for slow, until many were quick."""
        self.is_quick = False
        self._line_s = STALL_S

    def lines(self, processes: int, batch: int) -> Lines:
        """Return how many lines so many processes may have."""
        ahead = min(processes * max(LINES, batch), MOST_LINES) if self.is_quick else 0
        return Lines(processes * batch, ahead)
