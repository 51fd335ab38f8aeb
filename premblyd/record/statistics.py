"""What came and how the actions fare, in numbers: by the hour, and for each action.

Counted from the roll-ups (store/rollups.py) and from what waits, never from all events: it takes a
few milliseconds beside a million of them. Hours are whole: what is asked since a time in the middle
of one is answered from its beginning.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from peewee import Case, Database, Field, ModelSelect, fn

from premblyd.errors import StoreUnreadableError
from premblyd.record import fetching
from premblyd.store.models import (
    AttemptHour,
    AttemptOutcome,
    Delivery,
    EventHour,
    Rejection,
    State,
)
from premblyd.store.rollups import HOUR_MS, hour_of, lower_bound_ms
from premblyd.store.sqlite.failures import translated

By = Literal["response_code", "outcome", "type"]
_FIELDS: Mapping[By, Field] = {
    "response_code": EventHour.response_code,
    "outcome": EventHour.outcome,
    "type": EventHour.type,
}


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
class RejectionCount:
    """Requests that were refused in an hour for a reason, as far as they are kept as evidence."""

    from_ms: int
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionFigures:
    """How an action fares: its attempts since a time, and its deliveries now.

    `success_rate` is of the attempts that ended by themselves. Durations are right within a fifth.
    """

    action: str
    attempts: Mapping[str, int]  # by outcome
    success_rate: float | None
    median_ms: int | None
    p95_ms: int | None
    backlog: int  # waits to run, for the first time or again
    running: int
    dead: int
    overdue: int  # of the backlog: could run, and does not yet
    oldest_waiting_ms: int | None  # when the delivery was made that has waited longest
    next_due_ms: int | None


def span_ms(since_ms: int, now_ms: int, columns: int = 72) -> int:
    """Return the hours that one column of a chart should stand for, so that it has at most
    `columns`."""
    hours = (now_ms - hour_of(since_ms)) // HOUR_MS + 1
    return next(
        (step * HOUR_MS for step in (1, 2, 3, 6, 12) if hours <= step * columns),
        -(-hours // (24 * columns)) * 24 * HOUR_MS,
    )


def events(
    database: Database, by: By, *, since_ms: int, each_ms: int = HOUR_MS
) -> list[EventCount]:
    """Return how many webhooks came since `since_ms`, for spans of `each_ms` (whole hours), oldest
    first."""
    field = _FIELDS[by]
    query = _since(EventHour, since_ms, each_ms, field).select_extend(
        fn.SUM(EventHour.events), fn.SUM(EventHour.duplicates), fn.SUM(EventHour.unmatched)
    )
    return [
        EventCount(
            from_ms=from_ms,
            name=name or None,
            events=new,
            duplicates=duplicates,
            unmatched=unmatched,
        )
        for from_ms, name, new, duplicates, unmatched in fetching.tuples(database, query)
    ]


def rejections(
    database: Database, *, since_ms: int, each_ms: int = HOUR_MS
) -> list[RejectionCount]:
    """Return how many requests were refused since `since_ms`, for spans of `each_ms`, oldest
    first. At most 10,000 rejections are kept, so they are counted from their rows."""
    span = Rejection.at_ms / each_ms * each_ms
    query = (
        Rejection.select(span, Rejection.reason, fn.COUNT(Rejection.id))
        .where(Rejection.at_ms >= hour_of(since_ms))
        .group_by(span, Rejection.reason)
        .order_by(span, Rejection.reason)
    )
    return [
        RejectionCount(from_ms=from_ms, reason=reason, count=count)
        for from_ms, reason, count in fetching.tuples(database, query)
    ]


def actions(
    database: Database, *, since_ms: int, now_ms: int, names: Sequence[str] = ()
) -> list[ActionFigures]:
    """Return how each action fares: those called `names` first, then all others that have
    attempts since `since_ms` or open deliveries, by name."""
    attempts, durations = _attempts(database, since_ms)
    queues = queues_of(database, now_ms)
    running = _counts(database, Delivery.state == State.RUNNING)
    dead = dead_of(database)
    others = sorted({*attempts, *queues, *dead} - set(names))
    figures = []
    for name in (*names, *others):
        queue = queues.get(name, _EMPTY)
        counts = attempts.get(name, {})
        ended = sum(
            count for outcome, count in counts.items() if outcome != AttemptOutcome.INTERRUPTED
        )
        took = durations.get(name, {})
        figures.append(
            ActionFigures(
                action=name,
                attempts=counts,
                success_rate=counts.get(AttemptOutcome.SUCCEEDED, 0) / ended if ended else None,
                median_ms=quantile(took, 0.5),
                p95_ms=quantile(took, 0.95),
                backlog=max(0, queue.queued - running.get(name, 0)),
                running=running.get(name, 0),
                dead=dead.get(name, 0),
                overdue=queue.overdue,
                oldest_waiting_ms=queue.oldest_ms,
                next_due_ms=queue.next_due_ms,
            )
        )
    return figures


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOf:
    """What of an action is in the queue: waiting, or running."""

    queued: int
    overdue: int
    oldest_ms: int | None
    next_due_ms: int | None


_EMPTY = QueueOf(queued=0, overdue=0, oldest_ms=None, next_due_ms=None)


def queues_of(database: Database, now_ms: int, late_ms: int = 0) -> dict[str, QueueOf]:
    """Return what is in the queue by action: one walk over the queue's own index. Overdue is what
    was due more than `late_ms` ago."""
    is_overdue = Case(None, ((Delivery.due_at_ms < now_ms - late_ms, 1),), 0)
    query = (
        Delivery.select(
            Delivery.action,
            fn.COUNT(Delivery.id),
            fn.SUM(is_overdue),
            fn.MIN(Delivery.id),
            fn.MIN(Delivery.due_at_ms),
        )
        .where(Delivery.due_at_ms.is_null(False))
        .group_by(Delivery.action)
    )
    found = fetching.tuples(database, query)
    first_ids = [first_id for _, _, _, first_id, _ in found]
    made = dict(
        fetching.tuples(
            database,
            Delivery.select(Delivery.id, Delivery.created_at_ms).where(Delivery.id.in_(first_ids)),
        )
    )
    return {
        str(action): QueueOf(
            queued=queued,
            overdue=overdue,
            oldest_ms=_whole(made.get(first_id)),
            next_due_ms=_whole(next_due_ms),
        )
        for action, queued, overdue, first_id, next_due_ms in found
    }


def dead_of(database: Database) -> dict[str, int]:
    """Return how many deliveries are dead, by action: by the index of the dead."""
    query = "SELECT action, count(*) FROM delivery WHERE state = 'dead' GROUP BY action"
    with translated(StoreUnreadableError):
        return {str(action): count for action, count in database.execute_sql(query)}


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


def _attempts(
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
    for action, outcome, bucket, count in fetching.tuples(database, query):
        attempts[action][outcome] += count
        if outcome != AttemptOutcome.INTERRUPTED:
            durations[action][bucket] += count
    return {name: dict(counts) for name, counts in attempts.items()}, durations


def _counts(database: Database, condition: Any) -> dict[str, int]:
    query = (
        Delivery.select(Delivery.action, fn.COUNT(Delivery.id))
        .where(condition)
        .group_by(Delivery.action)
    )
    return {str(action): count for action, count in fetching.tuples(database, query)}


def _since(table: type[EventHour], since_ms: int, each_ms: int, field: Field) -> "ModelSelect[Any]":
    span = table.hour_ms / each_ms * each_ms
    return (
        table.select(span, field)
        .where(table.hour_ms >= hour_of(since_ms))
        .group_by(span, field)
        .order_by(span, field)
    )


def _whole(value: Any) -> int | None:
    """Return a time; None for what somebody has put in its place."""
    return value if isinstance(value, int) else None
