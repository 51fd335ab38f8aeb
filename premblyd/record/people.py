"""How many people's data is held, and of which kinds: the numbers of a notice after a breach, which
is due within 72 hours. Begin with `of_period`.

All events are counted, in stretches of ids, each by a statement of its own. At a million events
that takes seconds. People are counted by their `user_ref`: that two of them are one person, or that
somebody is named in a body alone, can't be known.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from peewee import Case, Expression, Field, fn

from premblyd.engines.engine import Database
from premblyd.model.keeptables import Lacks
from premblyd.model.table import Table
from premblyd.model.tables import Attempt, Event, Inquiry, Rejection
from premblyd.record import lists, queries
from premblyd.record.queries import By
from premblyd.times import HOUR_MS

STRETCH = 10_000  # ids that one statement looks through
PEOPLE = 10_000  # of one statement
PHOTO_BYTES = 16 << 10  # of a body: without a photo few have as much


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Whose data is held of the events of a period, and how many records of which kind.

    `references` are those of events that name nobody: some of them may be of the people. `nameless`
    events have not even a reference.
    """

    since_ms: int
    until_ms: int
    people: int
    references: int
    nameless: int
    oldest_ms: int | None
    newest_ms: int | None
    records: dict[str, int]
    lacking: dict[str, int]  # events that lack something by now, as Lacks says


def of_period(
    database: Database,
    since_ms: int,
    until_ms: int,
    watch: Callable[[int, int], None] = lambda done, of: None,
) -> People:
    """Count the people and the records of the events received from `since_ms` until before
    `until_ms`. `watch` is told how many ids have been looked through, of how many. Raise
    StoreUnreadableError when it can't be read."""
    period = (since_ms, until_ms)
    span = _span(database, Event.received_at_ms, period)
    is_within = Event.received_at_ms.between(since_ms, until_ms - 1)
    counts: Counter[str] = Counter()
    references: set[int] = set()
    times: list[int] = []
    for start, end in span.stretches():
        chosen = Event.id.between(start, end) & is_within
        [(oldest_ms, newest_ms, *sums)] = queries.tuples(database, _COUNTS.where(chosen))
        counts.update({name: int(count or 0) for name, count in zip(_SUMS, sums, strict=True)})
        times += [each for each in (oldest_ms, newest_ms) if isinstance(each, int)]
        found = queries.raw_tuples(database, _REFERENCES.where(chosen))
        # 64 bits of each: a million take 60 MB, and that two of them are alike is unlikely.
        references.update(hash(reference) for (reference,) in found)
        watch(end - span.low + 1, span.high - span.low + 1)
    return People(
        since_ms=since_ms,
        until_ms=until_ms,
        people=_people(database, span, is_within),
        references=len(references),
        nameless=counts["nameless"],
        oldest_ms=min(times, default=None),
        newest_ms=max(times, default=None),
        records={
            **{name: counts[name] for name in ("events", "bodies", "photos", "names", "addresses")},
            "outputs": _count(database, Attempt.started_at_ms, Attempt.output != "", period),
            "questions": _count(database, Inquiry.at_ms, None, period),
            "rejections": _refused(database, period),
        },
        lacking={each.value: counts[each.value] for each in Lacks},
    )


def _refused(database: Database, period: tuple[int, int]) -> int:
    """Return how many requests were refused: few are kept, and their ids come again."""
    is_within = Rejection.at_ms.between(period[0], period[1] - 1)
    ids = Rejection.select(fn.COUNT(Rejection.id)).where(is_within)
    return int(queries.value(database, ids) or 0)


def _people(database: Database, span: "_Span", is_within: Expression) -> int:
    """Return how many people the events name, by the index of them alone: each step takes the next
    ones in the order of the alphabet. It has ids and no times: the rows themselves are looked at
    where the ids leave it open whether they are of the period."""
    is_surely_within = Event.id.between(span.sure_low, span.sure_high)
    query = (
        Event.select(Event.user_ref)
        .from_(By(Event, "event_user_ref"))
        .where(Event.user_ref.is_null(False), Event.id.between(span.low, span.high))
        .where(is_surely_within | is_within)
        .distinct()
        .order_by(Event.user_ref)
        .limit(PEOPLE)
    )
    count, step = 0, query
    while True:
        found = queries.raw_tuples(database, step)
        count += len(found)
        if len(found) < PEOPLE:
            return count
        step = query.where(Event.user_ref > found[-1][0])


def _count(database: Database, column: Field, condition: Any, period: tuple[int, int]) -> int:
    """Return how many rows of a table have their time in a period, and fulfil a condition."""
    table: type[Table] = column.model
    span = _span(database, column, period)
    ids = table.select(fn.COUNT(table.id)).from_(By(table, None))
    chosen = ids.where(column.between(period[0], period[1] - 1))
    if condition is not None:
        chosen = chosen.where(condition)
    return sum(
        int(queries.value(database, chosen.where(table.id.between(*stretch))) or 0)
        for stretch in span.stretches()
    )


class _Span(NamedTuple):
    """The ids that may be of a period, and those that surely are."""

    low: int
    high: int
    sure_low: int
    sure_high: int

    def stretches(self) -> Iterator[tuple[int, int]]:
        for start in range(self.low, self.high + 1, STRETCH):
            yield start, min(self.high, start + STRETCH - 1)


def _span(database: Database, at_ms: Field, period: tuple[int, int]) -> _Span:
    """Find the ids of a period, of a table whose rows have ids and times in the same order but
    around a moment when a clock was set, and but for other hosts' clocks."""
    table: type[Table] = at_ms.model
    since_ms, until_ms = period
    edges = (since_ms - HOUR_MS, until_ms + HOUR_MS, since_ms + HOUR_MS, until_ms - HOUR_MS)
    low, high, sure_low, sure_high = (
        lists.first_since(database, table, at_ms, edge) for edge in edges
    )
    return _Span(low, high - 1, sure_low, sure_high - 1)


def _sum(condition: Any) -> Any:
    return fn.SUM(Case(None, [(condition, 1)], 0))


_HAS_ALL = Event.lacks.is_null()
_SUMS = {
    "events": _sum(Event.id.is_null(False)),
    "bodies": _sum(_HAS_ALL | (Event.lacks == Lacks.MEDIA)),
    "photos": _sum(_HAS_ALL & (Event.body_bytes >= PHOTO_BYTES)),
    "names": _sum(_HAS_ALL | Event.lacks.in_((Lacks.MEDIA, Lacks.BODY))),
    "addresses": _sum(Event.remote_ip != ""),
    "nameless": _sum(Event.user_ref.is_null() & Event.reference.is_null()),
    **{each.value: _sum(Event.lacks == each) for each in Lacks},
}
_EVENTS = Event.select().from_(By(Event, None))
_COUNTS = _EVENTS.select(
    fn.MIN(Event.received_at_ms), fn.MAX(Event.received_at_ms), *_SUMS.values()
)
_REFERENCES = (
    _EVENTS.select(fn.COALESCE(Event.reference_key, Event.reference))
    .where(Event.user_ref.is_null(), Event.reference.is_null(False))
    .distinct()
)
