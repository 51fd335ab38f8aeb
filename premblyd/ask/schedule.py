"""When Prembly is asked what became of a verification, and when it is given up. Pure.

All times count from the event, so a question that was missed while nothing ran is made up for once,
and the next one comes as if it had not been missed.
"""

import bisect
from dataclasses import dataclass

from premblyd.config.inquiries import Pending

RETRY_MS = 5 * 60_000  # after a question without an answer
LATE_RETRY_MS = 60 * 60_000  # after the last one, which must not be lost to an outage
GRACE_MS = 24 * 60 * 60_000  # for which the last one may be tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """After which times of an event Prembly is asked: each of `ask_ms`, in their order, then again
    and again after the last, until `give_up_ms`. Then it is asked once more."""

    ask_ms: tuple[int, ...]
    give_up_ms: int

    @classmethod
    def of(cls, pending: Pending) -> "Schedule":
        """Return the schedule that the configuration sets."""
        return cls(ask_ms=pending.ask_ms, give_up_ms=pending.give_up_ms)

    def next_due_ms(self, created_at_ms: int, now_ms: int) -> int | None:
        """Return when Prembly is asked next about an event of `created_at_ms`; None: never more."""
        age_ms = now_ms - created_at_ms
        if age_ms >= self.give_up_ms:
            return None
        number = bisect.bisect_right(self.ask_ms, age_ms)
        if number < len(self.ask_ms):
            next_ms = self.ask_ms[number]
        else:
            last_ms = self.ask_ms[-1]
            next_ms = (age_ms // last_ms + 1) * last_ms
        return created_at_ms + min(next_ms, self.give_up_ms)

    def retry_due_ms(
        self, created_at_ms: int, due_at_ms: int, now_ms: int, retry_after_ms: int = 0
    ) -> int | None:
        """Return when Prembly is asked again after the question of `due_at_ms` had no answer, which
        says nothing of the verification; None: never more."""
        next_ms = self.next_due_ms(created_at_ms, now_ms)
        if next_ms is not None:
            return max(min(next_ms, now_ms + RETRY_MS), now_ms + retry_after_ms)
        if due_at_ms >= created_at_ms + self.give_up_ms + GRACE_MS:
            return None
        return now_ms + max(LATE_RETRY_MS, retry_after_ms)
