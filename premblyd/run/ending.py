"""Decides, and nothing else does, how a run of a hook ends for its delivery."""

import random

from premblyd.config.models import Retry
from premblyd.queue.jobs import Ending, Job, Result
from premblyd.store.states import AttemptOutcome, State

MAX_RETRY_AFTER_MS = 24 * 3_600_000  # a target's Retry-After may delay a delivery, not stop it


def ending_of(
    job: Job, result: Result, policy: Retry, *, now_ms: int, rng: random.Random
) -> Ending:
    """Return what becomes of the delivery of `job`, whose hook ended now with `result`.

    It has succeeded; or its hook runs again; or it is dead, because that can't help or no
    attempt is left; or it is cancelled or skipped, because another event is run for instead. An
    interrupted run costs no attempt, and is due again at once, or after the time that its result
    asks for.
    """
    interrupted = result.outcome is AttemptOutcome.INTERRUPTED
    attempts_left = job.attempts_left + 1 if interrupted else job.attempts_left
    wait_ms = None
    if result.outcome is AttemptOutcome.SUCCEEDED:
        state = State.SUCCEEDED
    elif result.ends_as is not None:
        state = result.ends_as
    elif result.final or attempts_left <= 0:
        state = State.DEAD
    elif interrupted:
        state, wait_ms = State.PENDING, round(result.retry_after_s * 1000)
    else:
        state, wait_ms = State.PENDING, _wait_ms(policy, attempts_left, result, rng)
    due_at_ms = None if wait_ms is None else now_ms + wait_ms
    return Ending(state=state, at_ms=now_ms, due_at_ms=due_at_ms, attempts_left=attempts_left)


def _wait_ms(policy: Retry, attempts_left: int, result: Result, rng: random.Random) -> int:
    """Return how long a failed hook waits: with full jitter between half and the whole of the
    delay, so that what failed together does not come back together. `Retry-After` lengthens it."""
    whole = _delay_ms(policy, policy.attempts - attempts_left)
    asked = min(result.retry_after_s * 1000, MAX_RETRY_AFTER_MS)
    return round(max(rng.uniform(whole / 2, whole), asked))


def _delay_ms(policy: Retry, failures: int) -> float:
    """Return `first_delay * factor^(failures-1)`, capped by `max_delay`."""
    try:
        grown = policy.first_delay_ms * policy.factor ** max(0, failures - 1)
    except OverflowError:
        return policy.max_delay_ms if policy.first_delay_ms else 0
    return min(grown, policy.max_delay_ms)
