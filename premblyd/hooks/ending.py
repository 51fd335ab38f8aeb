"""When a failed hook runs again."""

import random

from premblyd.config.models import Retry
from premblyd.store.jobs import Result
from premblyd.store.models import AttemptOutcome

MAX_RETRY_AFTER_MS = 24 * 3_600_000  # a receiver may ask for patience, not for silence


def next_at_ms(
    policy: Retry, attempts_left: int, result: Result, now_ms: int, rng: random.Random
) -> int | None:
    """Return when to try again, or None: it succeeded, can never work, or has no attempt left.

    Exponential with full jitter between half and the whole of `first_delay * factor^(n-1)`,
    capped by `max_delay`; `Retry-After` lengthens the wait. An interrupted run is due at once,
    or after that.
    """
    if result.outcome is AttemptOutcome.SUCCEEDED or result.final:
        return None
    if result.outcome is AttemptOutcome.INTERRUPTED:
        return now_ms + round(result.retry_after_s * 1000)
    if attempts_left <= 0:
        return None
    whole = delay_ms(policy, policy.attempts - attempts_left)
    asked = min(result.retry_after_s * 1000, MAX_RETRY_AFTER_MS)
    return now_ms + round(max(rng.uniform(whole / 2, whole), asked))


def delay_ms(policy: Retry, failures: int) -> float:
    """Return the longest wait after the `failures`-th failure in a row."""
    try:
        grown = policy.first_delay_ms * policy.factor ** max(0, failures - 1)
    except OverflowError:
        return policy.max_delay_ms if policy.first_delay_ms else 0
    return min(grown, policy.max_delay_ms)
