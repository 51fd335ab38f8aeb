"""Troubles of events and deliveries: the wallet is empty, no event comes, requests are refused, a
code is new; deliveries are late, failing or dead.

What a feature knows of them is in its troubles.py, as functions: of which actions it is told
otherwise why they are late (NOT_LATE), and of those without a success how many attempts failed
(FAILURES)."""

from collections.abc import Iterator

from peewee import fn

from premblyd.feature import added
from premblyd.ground import times
from premblyd.ground.privacy import is_code
from premblyd.ground.times import HOUR_MS
from premblyd.ground.words import counted
from premblyd.prembly.payload import CODES
from premblyd.queue.rejections import ConnectionFault
from premblyd.record import events, queries, standing
from premblyd.record.troubles.trouble import Item, Severity, Situation, Target, largest, trouble
from premblyd.store.states import AttemptOutcome
from premblyd.store.tables import Attempt, Delivery, Event, Rejection

BURST = 20  # rejections in an hour
NOISE_BURST = 300  # of what anybody at all can cause: a scan for paths
MAX_CODES = 300  # distinct ones that are looked at
_NOISE = frozenset(ConnectionFault)
_WRONG_KEY = (
    "If they come from Prembly, the key or the endpoint's scheme is wrong, and its webhooks are"
    " being lost: compare the public key in Prembly's dashboard."
)
_REJECTED = {
    "wrong signature": _WRONG_KEY,
    "missing signature": _WRONG_KEY,
    "malformed signature": _WRONG_KEY,
    "body too large": "Raise `max_body` if Prembly sent them.",
    "address not allowed": "Compare `allow_ips` with the addresses.",
}
WALLET_EMPTY = "03"
LAST_EMPTY = 400  # of these events: they are counted so far
LAST_VERIFIED = 400  # of the events after an empty wallet: where a verification is looked for
LATE_MS = 5 * 60_000  # what has been due for longer is past its time
FAILING = 3  # attempts of an action in a row, and no success after them
LAST_ATTEMPTS = 400  # of all actions: where failures in a row are looked for
FAILED = (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT)


@trouble(means="deliveries are overdue")
def late(situation: Situation) -> Iterator[Item]:
    overdue = standing.overdue_of(situation.database, situation.now_ms - LATE_MS)
    for ask in added("troubles", "NOT_LATE"):
        for action in ask(situation):
            overdue.pop(action, None)
    for action, count in largest({action: late.count for action, late in overdue.items()}):
        due_ms = overdue[action].since_ms
        since = f" The first was due at {times.for_people(due_ms)} UTC." if due_ms else ""
        yield Item(
            text=f"{counted(count, 'delivery', 'deliveries')} of {action} should have run by now,"
            f" but did not.{since}",
            remedy="Is the daemon running? Is the hook slow, so that more must run at once"
            " (`concurrency`)? With `confirm`: does Prembly answer?",
            target=Target(page="deliveries", state="pending", action=action),
            count=count,
        )


@trouble(means="an action keeps failing")
def failing(situation: Situation) -> Iterator[Item]:
    """Yield actions whose last attempts all failed, save those that make none any more."""
    resting = standing.at_rest(situation.database, situation.now_ms)
    for action, count in sorted(_failures_in_a_row(situation).items()):
        if action in resting:
            continue
        yield Item(
            text=f"{action} keeps failing: its last {counted(count, 'attempt')}"
            " failed, and none has succeeded since.",
            remedy="Look at the hook's output, and check that its target is up.",
            target=Target(page="deliveries", action=action),
            count=count,
        )


def _failures_in_a_row(situation: Situation) -> dict[str, int]:
    database, since_ms = situation.database, situation.since_ms
    last = (
        Attempt.select(Attempt.delivery, Attempt.outcome, Attempt.finished_at_ms)
        .order_by(Attempt.id.desc())
        .limit(LAST_ATTEMPTS)
        .alias("last")
    )
    query = (
        Delivery.select(Delivery.action, last.c.outcome, last.c.finished_at_ms)
        .join(last, on=(last.c.delivery_id == Delivery.id))
        .order_by(last.c.finished_at_ms.desc())
    )
    failures: dict[str, int] = {}
    succeeded: set[str] = set()
    for action, outcome, finished_at_ms in queries.tuples(database, query):
        if (finished_at_ms or 0) < since_ms:
            continue
        if outcome == AttemptOutcome.SUCCEEDED:
            succeeded.add(action)
        elif outcome in FAILED and action not in succeeded:
            failures[action] = failures.get(action, 0) + 1
    for ask in added("troubles", "FAILURES"):
        for action, count in ask(situation).items():
            if action not in succeeded:
                failures[action] = max(count, failures.get(action, 0))
    return {action: count for action, count in failures.items() if count >= FAILING}


@trouble(means="deliveries gave up")
def dead(situation: Situation) -> Iterator[Item]:
    settings = situation.settings
    configured = None if settings is None else {action.name for action in settings.actions}
    for action, count in largest(standing.dead_of(situation.database)):
        is_gone = configured is not None and action not in configured
        yield Item(
            text=f"{counted(count, 'delivery', 'deliveries')} of {action} gave up (dead).",
            remedy=f"The configuration has no action {action}: put it back, or cancel them"
            f" (`premblyd cancel --dead --action {action}`)."
            if is_gone
            else "Fix the cause (see the last error), then `premblyd replay --dead --action"
            f" {action}`. What Prembly contradicted stays dead. Cancel those that will not be"
            f" retried: `premblyd cancel --dead --action {action}`, or one by `--delivery ID`.",
            target=Target(page="deliveries", state="dead", action=action),
            count=count,
        )


@trouble(means="no event came for a duration: silent: 6h", has_metric=False)
def silent(situation: Situation) -> Iterator[Item]:
    """Yield that nothing came from Prembly, while it could be stored."""
    if situation.silent_ms is None or situation.store_error is not None:
        return
    last_ms = events.last_event_of_prembly_ms(situation.database)
    if situation.now_ms - (last_ms or situation.started_at_ms) >= situation.silent_ms:
        last = f"since {times.for_people(last_ms)} UTC" if last_ms else "yet"
        yield Item(
            text=f"No event has come {last}.",
            remedy="Is the URL in Prembly's dashboard still right, and does it reach this machine?"
            " `premblyd rejections` shows what was refused, `premblyd reconcile` what is missing.",
            command="premblyd events --limit 5",
            target=Target(page="events"),
        )


@trouble(means="many requests were refused", passes=False)
def rejections(situation: Situation) -> Iterator[Item]:
    since_ms = situation.now_ms - HOUR_MS
    query = (
        Rejection.select(Rejection.reason, fn.COUNT(Rejection.id))
        .where(Rejection.at_ms >= since_ms)
        .group_by(Rejection.reason)
    )
    for reason, count in largest(dict(queries.tuples(situation.database, query))):
        if count >= (NOISE_BURST if reason in _NOISE else BURST):
            yield Item(
                text=f"{count:,} requests were refused in the last hour: {reason}.",
                remedy=_REJECTED.get(reason, "See where they come from."),
                target=Target(page="rejections", reason=reason, since_ms=since_ms),
                count=count,
            )


@trouble(
    means="a response code that Prembly does not document came for the first time", passes=False
)
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


@trouble(means="your Prembly wallet is empty (code 03)")
def wallet(situation: Situation) -> Iterator[Item]:
    """Yield code 03, unless a verification was paid for after it."""
    query = Event.select(Event.id, Event.received_at_ms).where(Event.response_code == WALLET_EMPTY)
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
        target=Target(page="events", code=WALLET_EMPTY, since_ms=situation.since_ms),
        count=len(found),
    )


TROUBLES = (wallet, late, failing, dead, silent, rejections, new_code)
