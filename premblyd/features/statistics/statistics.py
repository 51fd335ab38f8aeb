"""Counts of events and the results of actions: by the hour, and for each action.

Counted from the roll-ups (hooks.py) and from what waits, never from all events: it takes a
few milliseconds beside a million of them. Hours are whole: what is asked since a time in the middle
of one is answered from its beginning.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from peewee import SQL, Field, fn

from premblyd.features.statistics.hooks import OTHER, hour_of, lower_bound_ms
from premblyd.features.statistics.tables import AttemptHour, EventHour
from premblyd.ground import privacy
from premblyd.ground.privacy import Shape
from premblyd.ground.times import HOUR_MS
from premblyd.record import queries, standing
from premblyd.record.standing import Standing
from premblyd.store.engine import Database
from premblyd.store.states import AttemptOutcome
from premblyd.store.tables import Rejection

_FIRST_TWO = (SQL("1"), SQL("2"))  # columns: PostgreSQL sees no likeness in `hour / ?` and itself
CountedBy = Literal["response_code", "outcome", "type"]
_SHOWN: Mapping[CountedBy, Shape] = {
    "response_code": Shape.CODE,
    "outcome": Shape.PLAIN,
    "type": Shape.TYPE,
}
MOST_COLUMNS = 72  # of a chart


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCount:
    """Webhooks that came in an hour (or in a longer span that began then). `name` is what they are
    counted by, such as a response code; None: they had none."""

    from_ms: int
    name: str | None
    events: int
    duplicates: int
    unmatched: int  # of the events: those that no action was for


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionFigures(Standing):
    """How an action fares: its deliveries now, and its attempts since a time.

    `success_rate` is of the attempts that ended by themselves. Durations are right within a fifth.
    """

    attempts: Mapping[str, int]  # by outcome
    success_rate: float | None
    median_ms: int | None
    p95_ms: int | None
    pause: Any = None  # what says that nothing begins, and nothing is overdue

    @property
    def attempt_count(self) -> int:
        """How many ended by themselves. With `confirm`, Prembly is asked in those that did not."""
        return sum(self.attempts.values()) - self.attempts.get("interrupted", 0)


def span_ms(since_ms: int, now_ms: int) -> int:
    """Return the hours that one column of a chart should stand for, so that it has at most
    MOST_COLUMNS."""
    hours = (now_ms - hour_of(since_ms)) // HOUR_MS + 1
    return next(
        (step * HOUR_MS for step in (1, 2, 3, 6, 12) if hours <= step * MOST_COLUMNS),
        -(-hours // (24 * MOST_COLUMNS)) * 24 * HOUR_MS,
    )


def events(
    database: Database, by: CountedBy, *, since_ms: int, each_ms: int = HOUR_MS
) -> list[EventCount]:
    """Return how many webhooks came since `since_ms`, for spans of `each_ms` (whole hours), oldest
    first. A type or a code that a sender made up is masked, as in lists."""
    query = EventHour.select(
        _span(EventHour.hour_ms, each_ms),
        fn.NULLIF(getattr(EventHour, by), "").alias("name"),
        fn.SUM(EventHour.events).alias("events"),
        fn.SUM(EventHour.duplicates).alias("duplicates"),
        fn.SUM(EventHour.unmatched).alias("unmatched"),
    ).where(EventHour.hour_ms >= hour_of(since_ms))
    found = queries.rows(database, query.group_by(*_FIRST_TWO).order_by(*_FIRST_TWO), EventCount)
    alike = defaultdict[tuple[int, str | None], Counter[str]](Counter)
    for each in found:
        name = each.name if each.name == OTHER else privacy.mask(each.name, _SHOWN[by])
        counts = alike[each.from_ms, name]
        counts.update(events=each.events, duplicates=each.duplicates, unmatched=each.unmatched)
    return [
        EventCount(from_ms=from_ms, name=name, **counts)
        for (from_ms, name), counts in alike.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionCount:
    """Requests that were refused in an hour for a reason, as far as they are kept as evidence."""

    from_ms: int
    reason: str
    count: int


def rejections(
    database: Database, *, since_ms: int, each_ms: int = HOUR_MS
) -> list[RejectionCount]:
    """Return how many requests were refused since `since_ms`, for spans of `each_ms`, oldest
    first. At most 10,000 rejections are kept, so they are counted from their rows."""
    query = Rejection.select(
        _span(Rejection.at_ms, each_ms), Rejection.reason, fn.COUNT(Rejection.id).alias("count")
    ).where(Rejection.at_ms >= hour_of(since_ms))
    return queries.rows(database, query.group_by(*_FIRST_TWO).order_by(*_FIRST_TWO), RejectionCount)


def _span(at_ms: Field, each_ms: int) -> Any:
    return (at_ms / each_ms * each_ms).alias("from_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What came in a time and how the actions fared, for spans of `each_ms`."""

    since_ms: int
    until_ms: int
    each_ms: int
    by_outcome: Sequence[EventCount]
    by_response_code: Sequence[EventCount]
    by_type: Sequence[EventCount]
    rejections: Sequence[RejectionCount]
    actions: Sequence[ActionFigures]

    @property
    def rejections_by_reason(self) -> Counter[str]:
        """How many requests were refused, by reason."""
        counts: Counter[str] = Counter()
        for each in self.rejections:
            counts[each.reason] += each.count
        return counts


def of_period(
    database: Database, *, since_ms: int, now_ms: int, names: Sequence[str] = ()
) -> Period:
    """Return all numbers since a time, of the actions called `names` first."""
    span = {"since_ms": since_ms, "each_ms": span_ms(since_ms, now_ms)}
    return Period(
        **span,
        until_ms=now_ms,
        by_outcome=events(database, "outcome", **span),
        by_response_code=events(database, "response_code", **span),
        by_type=events(database, "type", **span),
        rejections=rejections(database, **span),
        actions=actions(database, since_ms=since_ms, now_ms=now_ms, names=names),
    )


def actions(
    database: Database, *, since_ms: int, now_ms: int, names: Sequence[str] = ()
) -> list[ActionFigures]:
    """Return how each action fares: those called `names` first, then all others that have
    attempts since `since_ms` or open deliveries, or are paused, by name."""
    attempts, durations = attempts_of(database, since_ms)
    resting = standing.at_rest(database, now_ms)
    figures = []
    for stands in standing.actions(database, now_ms, names, others=attempts):
        name = stands.action
        counts, took = attempts.get(name, {}), durations.get(name, {})
        ended = sum(counts.values()) - counts.get(AttemptOutcome.INTERRUPTED, 0)
        figures.append(
            ActionFigures(
                **asdict(stands),
                attempts=counts,
                success_rate=counts.get(AttemptOutcome.SUCCEEDED, 0) / ended if ended else None,
                median_ms=quantile(took, 0.5),
                p95_ms=quantile(took, 0.95),
                pause=resting.get(name),
            )
        )
    return figures


def quantile(buckets: Mapping[int, int], share: float) -> int | None:
    """Return the duration below which `share` of the attempts in `buckets` stayed, in
    milliseconds; None for none. Within a bucket they are taken to be spread evenly."""
    rank = share * sum(buckets.values())
    below = 0
    for upper in sorted(buckets):
        count = buckets[upper]
        if count and below + count >= rank:
            lower = lower_bound_ms(upper)
            return math.ceil(lower + (upper - lower) * (rank - below) / count)
        below += count
    return None


def attempts_of(
    database: Database, since_ms: int
) -> tuple[dict[str, dict[str, int]], dict[str, dict[int, int]]]:
    """Return by action its attempts by outcome, and the durations of those that ended by
    themselves by bucket."""
    query = (
        AttemptHour.select(
            AttemptHour.action,
            AttemptHour.outcome,
            AttemptHour.bucket_ms,
            fn.SUM(AttemptHour.attempts),
        )
        .where(AttemptHour.hour_ms >= hour_of(since_ms))
        .group_by(AttemptHour.action, AttemptHour.outcome, AttemptHour.bucket_ms)
    )
    attempts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    durations: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for action, outcome, bucket, count in queries.tuples(database, query):
        attempts[action][outcome] += count
        if outcome != AttemptOutcome.INTERRUPTED:
            durations[action][bucket] += count
    return {name: dict(counts) for name, counts in attempts.items()}, durations
