"""How a run of a hook ends for its delivery, and when a failed hook runs again."""

import random
from dataclasses import replace
from fractions import Fraction
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from premblyd.config.models import Retry
from premblyd.queue.jobs import Ending, Result
from premblyd.run.dispatcher import ending_of
from premblyd.store.states import AttemptOutcome, State
from tests.support.jobs import job
from tests.support.rows import for_each

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
FAILED = Result(outcome=AttemptOutcome.FAILED)


def policy(attempts: int, first: str, factor: float, longest: str) -> Retry:
    return Retry.model_validate(
        {"attempts": attempts, "first_delay": first, "factor": factor, "max_delay": longest}
    )


durations = st.integers(0, 366_000_000).map("{}ms".format)
policies = st.builds(policy, st.integers(1, 1000), durations, st.floats(1, 100), durations)


def end(result: Result, left: int, retries: Retry | None = None, seed: int = 0) -> Ending:
    """Return the ending of a run with `left` attempts left."""
    ended = replace(job(), attempts_left=left)
    rng = random.Random(seed)
    ending = ending_of(ended, result, retries or Retry(), now_ms=NOW_MS, rng=rng)
    assert ending.at_ms == NOW_MS
    assert (ending.due_at_ms is not None) == (ending.state is State.PENDING)
    return ending


def wait_ms(retries: Retry, left: int, seed: int = 0, **result: Any) -> int | None:
    """Return how long a failed hook waits with `left` attempts left."""
    ending = end(Result(outcome=AttemptOutcome.FAILED, **result), left, retries, seed)
    assert ending.attempts_left == left
    return None if ending.due_at_ms is None else ending.due_at_ms - NOW_MS


@given(policies, st.integers(1, 1000), st.integers())
@example(policy(1000, "10s", 100, "4h"), 1, 0)  # 100 ** 998 is no float
@example(policy(1000, "0s", 100, "4h"), 1, 0)
@example(policy(10, "1h", 1, "1s"), 9, 0)
def test_a_wait_is_between_half_and_the_whole_of_the_capped_exponential(
    retries: Retry, left: int, seed: int
) -> None:
    left = min(left, retries.attempts - 1)
    wait = wait_ms(retries, left, seed)
    if left == 0:
        assert wait is None
        return
    failures = retries.attempts - left
    grown: Fraction = retries.first_delay_ms * Fraction(retries.factor) ** (failures - 1)
    whole = min(grown, Fraction(retries.max_delay_ms))
    assert wait is not None
    assert whole / 2 - 1 <= wait <= whole + 1  # a millisecond of rounding


def test_the_default_waits_grow_threefold_and_are_spread_over_the_whole_half() -> None:
    for failures, whole in enumerate((10, 30, 90, 270, 810, 2430, 7290, 14400, 14400), start=1):
        waits = [wait_ms(Retry(), 10 - failures, seed) or 0 for seed in range(100)]
        assert whole * 500 <= min(waits) < whole * 550 < whole * 950 < max(waits) <= whole * 1000


@given(policies, st.floats(0, 1e12), st.integers())
def test_retry_after_lengthens_a_wait_up_to_a_day(
    retries: Retry, asked_s: float, seed: int
) -> None:
    left = retries.attempts - 1 or 1
    wait = wait_ms(retries, left, seed, retry_after_s=asked_s)
    unasked = wait_ms(retries, left, seed) or 0
    assert wait == max(unasked, round(min(asked_s * 1000, DAY_MS)))


def test_a_success_or_a_final_failure_is_not_tried_again() -> None:
    for outcome in AttemptOutcome:
        final = Result(outcome=outcome, final=True, retry_after_s=5)
        succeeded = outcome is AttemptOutcome.SUCCEEDED
        assert end(final, 9).state is (State.SUCCEEDED if succeeded else State.DEAD)


@for_each(("left", "asked_s"), [(0, 0), (9, 0), (0, 5)])
def test_an_interrupted_run_is_due_at_once_or_after_what_it_asks_also_the_last_one(
    left: int, asked_s: float
) -> None:
    ending = end(Result(outcome=AttemptOutcome.INTERRUPTED, retry_after_s=asked_s), left)
    assert (ending.due_at_ms, ending.attempts_left) == (NOW_MS + 1000 * asked_s, left + 1)


@for_each("outcome", [AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT])
def test_failures_and_timeouts_wait_until_the_budget_is_spent(outcome: AttemptOutcome) -> None:
    for left, is_tried_again in {9: True, 1: True, 0: False}.items():
        result = Result(outcome=outcome, retry_after_s=5)
        assert end(result, left).state is (State.PENDING if is_tried_again else State.DEAD)


def test_more_attempts_left_than_the_policy_has_wait_like_the_first() -> None:
    shrunk = policy(2, "10s", 3, "4h")  # a reload lowered it; the delivery has its old budget
    assert 5_000 <= (wait_ms(shrunk, 9) or 0) <= 10_000
