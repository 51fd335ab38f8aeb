"""When Prembly is asked what became of a verification, and when it is given up."""

import pytest

from premblyd.features.asking.pending import (
    GRACE_MS,
    LATE_RETRY_MS,
    RETRY_MS,
    next_due_ms,
    retry_due_ms,
)
from premblyd.features.asking.settings import Pending
from tests.support.rows import for_each

BEGAN_MS = 1_700_000_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DEFAULT = Pending()


def schedule(*ask_ms: int, give_up_ms: int) -> Pending:
    return Pending.model_construct(ask_ms=ask_ms, give_up_ms=give_up_ms)


def questions(pending: Pending) -> list[int]:
    """Return when Prembly is asked, in ms after the event."""
    asked: list[int] = []
    due_ms: int | None = next_due_ms(pending, BEGAN_MS, BEGAN_MS)
    while due_ms is not None:
        asked.append(due_ms - BEGAN_MS)
        due_ms = next_due_ms(pending, BEGAN_MS, due_ms)
    return asked


def test_by_default_it_is_asked_after_each_time_and_then_every_12_hours_for_3_days() -> None:
    first = [MINUTE_MS, 5 * MINUTE_MS, 30 * MINUTE_MS, 2 * HOUR_MS]
    assert questions(DEFAULT) == [*first, *(hours * HOUR_MS for hours in range(12, 73, 12))]


def test_the_last_question_is_when_it_is_given_up() -> None:
    assert questions(schedule(10, 20, give_up_ms=45)) == [10, 20, 40, 45]
    assert questions(schedule(10, 20, give_up_ms=20)) == [10, 20]
    assert questions(schedule(10, give_up_ms=5)) == [5]


def test_questions_that_were_missed_are_made_up_for_once() -> None:
    a_day_later_ms = BEGAN_MS + 24 * HOUR_MS + 1
    assert next_due_ms(DEFAULT, BEGAN_MS, a_day_later_ms) == BEGAN_MS + 36 * HOUR_MS


def retry(age_ms: int, due_age_ms: int, retry_after_ms: int = 0) -> int | None:
    return retry_due_ms(DEFAULT, BEGAN_MS, BEGAN_MS + due_age_ms, BEGAN_MS + age_ms, retry_after_ms)


def test_a_question_without_an_answer_is_asked_again_soon() -> None:
    age_ms = 13 * HOUR_MS
    assert retry(age_ms, 12 * HOUR_MS) == BEGAN_MS + age_ms + RETRY_MS
    assert retry(MINUTE_MS, MINUTE_MS) == BEGAN_MS + 5 * MINUTE_MS  # the next is sooner


def test_retry_after_is_honoured() -> None:
    asked_ms = 2 * HOUR_MS
    assert retry(MINUTE_MS, MINUTE_MS, asked_ms) == BEGAN_MS + MINUTE_MS + asked_ms
    age_ms = DEFAULT.give_up_ms
    assert retry(age_ms, age_ms, asked_ms) == BEGAN_MS + age_ms + asked_ms


def test_an_outage_at_the_end_does_not_end_it() -> None:
    end_ms = DEFAULT.give_up_ms
    assert retry(end_ms, end_ms) == BEGAN_MS + end_ms + LATE_RETRY_MS
    late_ms = end_ms + GRACE_MS - 1
    assert retry(late_ms, late_ms) == BEGAN_MS + late_ms + LATE_RETRY_MS
    assert retry(end_ms + GRACE_MS, end_ms + GRACE_MS) is None


def test_after_a_long_stop_an_outage_does_not_end_it_at_once() -> None:
    start_ms = 10 * DEFAULT.give_up_ms
    due_ms = retry(start_ms, MINUTE_MS)
    assert due_ms == BEGAN_MS + start_ms + LATE_RETRY_MS
    assert retry(due_ms - BEGAN_MS, due_ms - BEGAN_MS) is None


@for_each("ask", [["5m", "1m"], ["1m", "1m"], ["0s", "1m"], []])
def test_the_times_of_questions_must_rise(ask: list[str]) -> None:
    with pytest.raises(ValueError, match="ask"):
        Pending.model_validate({"ask": ask})
