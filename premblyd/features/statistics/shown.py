"""What the counts of hours say: of events, of the results of actions, and of troubles.

Counted from the roll-ups (hooks.py) and from what waits, never from all events: it takes a few
milliseconds beside a million of them. Hours are whole: what is asked since a time in the middle of
one is answered from its beginning.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from peewee import fn

from premblyd.config.routing import Routing
from premblyd.features.reading.standing import Standing, standings
from premblyd.features.statistics.hooks import OTHER, hour_of, lower_bound_ms
from premblyd.features.statistics.tables import AttemptHour, EventHour
from premblyd.ground import privacy, times
from premblyd.ground.privacy import Shape, is_code
from premblyd.ground.words import counted
from premblyd.prembly.payload import CODES, WALLET_CODE
from premblyd.record import queries, standing
from premblyd.record.told import Item, Severity, Situation, Target, largest, trouble
from premblyd.record.troubles import FAILED
from premblyd.store.engine import Database
from premblyd.store.states import AttemptOutcome
from premblyd.store.tables import Event, Rejection

MAX_CODES = 300  # distinct ones that are looked at
LAST_EMPTY = 400  # events about an empty wallet: they are counted so far
LAST_VERIFIED = 400  # of the events after them: where a verification is looked for
CountedBy = Literal["response_code", "outcome", "type"]
_SHOWN: Mapping[CountedBy, Shape] = {
    "response_code": Shape.CODE,
    "outcome": Shape.PLAIN,
    "type": Shape.TYPE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCount:
    """Webhooks of a time. `name` is what they are counted by, such as a response code; None: they
    had none."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What came in a time, and how the actions fared. `rejections`: by reason, as far as they are
    kept as evidence."""

    since_ms: int
    until_ms: int
    by_outcome: Sequence[EventCount]
    by_response_code: Sequence[EventCount]
    by_type: Sequence[EventCount]
    rejections: Mapping[str, int]
    actions: Sequence[ActionFigures]


def of_period(
    database: Database, *, since_ms: int, now_ms: int, names: Sequence[str] = ()
) -> Period:
    """Return all numbers since a time, of the actions called `names` first."""
    return Period(
        since_ms=since_ms,
        until_ms=now_ms,
        by_outcome=events(database, "outcome", since_ms),
        by_response_code=events(database, "response_code", since_ms),
        by_type=events(database, "type", since_ms),
        rejections=rejections(database, since_ms),
        actions=actions(database, since_ms=since_ms, now_ms=now_ms, names=names),
    )


def events(database: Database, by: CountedBy, since_ms: int) -> list[EventCount]:
    """Return how many webhooks came since a time, the most first. A type or a code that a sender
    made up is masked, as in lists."""
    field = getattr(EventHour, by)
    sums = (fn.SUM(each) for each in (EventHour.events, EventHour.duplicates, EventHour.unmatched))
    query = EventHour.select(field, *sums).where(EventHour.hour_ms >= hour_of(since_ms))
    alike = defaultdict[str | None, Counter[str]](Counter)
    for value, came, again, alone in queries.tuples(database, query.group_by(field)):
        name = value if value == OTHER else privacy.mask(value or None, _SHOWN[by])
        alike[name].update(events=came, duplicates=again, unmatched=alone)
    found = [EventCount(name=name, **counts) for name, counts in alike.items()]
    return sorted(found, key=lambda each: (-each.events, each.name or ""))


def rejections(database: Database, since_ms: int) -> dict[str, int]:
    """Return how many requests were refused since a time, by reason, the most first. At most 10,000
    rejections are kept, so they are counted from their rows."""
    query = Rejection.select(Rejection.reason, fn.COUNT(Rejection.id))
    query = query.where(Rejection.at_ms >= hour_of(since_ms)).group_by(Rejection.reason)
    return dict(largest(dict(queries.tuples(database, query))))


def actions(
    database: Database, *, since_ms: int, now_ms: int, names: Sequence[str] = ()
) -> list[ActionFigures]:
    """Return how each action fares: those called `names` first, then all others that have
    attempts since `since_ms` or open deliveries, or are paused, by name."""
    attempts, durations = attempts_of(database, since_ms)
    resting = standing.at_rest(database, now_ms)
    figures = []
    for stands in standings(database, now_ms, names, others=attempts):
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


@trouble()
def unmatched(situation: Situation) -> Iterator[Item]:
    query = (
        EventHour.select(EventHour.response_code, fn.SUM(EventHour.unmatched))
        .where(EventHour.hour_ms >= hour_of(situation.since_ms), EventHour.unmatched > 0)
        .group_by(EventHour.response_code)
    )
    routing = Routing(situation.settings.actions) if situation.settings else None
    for code, count in largest(dict(queries.tuples(situation.database, query))):
        # Where an action is for the code, its `types` or `when` left these out: that was wanted.
        is_meant = routing is not None and bool(routing.actions_for_code(code or None))
        yield Item(
            severity=Severity.NOTICE if is_meant else Severity.WARNING,
            text=f"{counted(count, 'event')} with {named(code)} matched no action on"
            " arrival: stored, and nothing ran then.",
            remedy="If that is not what you want, add an action for them (`default` is for every"
            " code that no other action names), reload, then `premblyd replay --action NAME --since"
            " 24h --new`.",
            target=Target(page="events", code=code_filter(code), since_ms=situation.since_ms),
            count=count,
        )


def failures(situation: Situation) -> Mapping[str, int]:
    """Return by action how many attempts failed, where none succeeded: an action that runs rarely
    is not among the last attempts of busy ones."""
    attempts, _ = attempts_of(situation.database, situation.since_ms)
    return {
        action: sum(outcomes.get(outcome, 0) for outcome in FAILED)
        for action, outcomes in attempts.items()
        if AttemptOutcome.SUCCEEDED not in outcomes
    }


@trouble()
def new_code(situation: Situation) -> Iterator[Item]:
    """Yield codes that Prembly does not document and that the record has for the first time."""
    found = queries.by_sql(situation.database, _FIRST_OF_CODES, MAX_CODES)
    first_ids = {first_id: str(code) for code, first_id in found if code not in CODES}
    new = Event.select(Event.id).where(
        Event.id.in_(list(first_ids)), Event.received_at_ms >= situation.since_ms
    )
    for code in sorted(first_ids[number] for (number,) in queries.tuples(situation.database, new)):
        yield Item(
            text=f"The first event with {named(code)}, which Prembly does not document.",
            remedy="Look at the event, and decide which action should run for it.",
            target=Target(page="events", code=code_filter(code)),
        )


def named(code: str) -> str:
    if not code:
        return "no response code"
    return f"code {code}" if is_code(code) else "a code that does not look like Prembly's"


def code_filter(code: str) -> str | None:
    """Return how lists are filtered by a code; None: a text that a sender chose is not shown."""
    if not code:
        return "missing"
    return code if is_code(code) else None


_FIRST_OF_CODES = """
WITH RECURSIVE codes (code) AS (
    SELECT min(response_code) FROM event
    UNION ALL
    SELECT (SELECT min(response_code) FROM event WHERE response_code > code)
    FROM codes WHERE code IS NOT NULL
)
SELECT code, (SELECT min(id) FROM event WHERE response_code = code) FROM codes
WHERE code IS NOT NULL LIMIT ?
"""


@trouble()
def wallet(situation: Situation) -> Iterator[Item]:
    """Yield code 03, unless a verification was paid for after it."""
    query = Event.select(Event.id, Event.received_at_ms).where(Event.response_code == WALLET_CODE)
    last = query.order_by(Event.id.desc()).limit(LAST_EMPTY)
    found = [
        row for row in queries.tuples(situation.database, last) if row[1] >= situation.since_ms
    ]
    if not found:
        return
    later = (
        Event.select(Event.outcome)
        .where(Event.response_code == "00", Event.id > found[0][0])
        .order_by(Event.id.desc())
        .limit(LAST_VERIFIED)
    )
    if any(outcome != "unknown" for (outcome,) in queries.tuples(situation.database, later)):
        return
    yield Item(
        severity=Severity.URGENT,
        text=f"Your Prembly wallet is empty (code 03), last at"
        f" {times.for_people(found[0][1])} UTC: Prembly verifies nobody.",
        remedy="Fund the wallet in Prembly's dashboard.",
        target=Target(page="events", code=WALLET_CODE, since_ms=situation.since_ms),
        count=len(found),
    )


TROUBLES = (wallet, new_code, unmatched)
FAILURES = (failures,)
