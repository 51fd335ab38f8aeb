"""Troubles of events and deliveries: no event comes, requests are refused, a code is new, no action
matches; deliveries are late, failing, dead, or blocked by a dead one."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from peewee import fn

from premblyd.config.routing import Routing
from premblyd.features.pause import wording
from premblyd.features.postgresql import hostlist
from premblyd.features.statistics import statistics
from premblyd.features.statistics.rolled import rolled_code
from premblyd.features.statistics.rollups import hour_of
from premblyd.features.statistics.tables import EventHour
from premblyd.features.worker.tables import Halt
from premblyd.ground import times
from premblyd.ground.privacy import is_code
from premblyd.ground.times import DAY_MS, HOUR_MS
from premblyd.ground.words import counted
from premblyd.prembly import samples
from premblyd.prembly.payload import CODES
from premblyd.queue.rejections import ConnectionFault
from premblyd.record import events, queries
from premblyd.record.troubles.trouble import Item, Severity, Situation, Target, largest, trouble
from premblyd.store.states import AttemptOutcome, HaltReason
from premblyd.store.tables import Attempt, Delivery, Event, Host, Rejection

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
_LOG = "sudo journalctl -u premblyd -n 50"
_HALTED = {
    HaltReason.NOT_FOUND: "its worker's program is not there, or is not executable",
    HaltReason.NOT_STARTED: "its worker's program can't be started",
    HaltReason.ENDED: "its worker's program ends before it is ready",
    HaltReason.NOT_READY: "its worker's program is not ready within `start_timeout`",
    HaltReason.OTHER_VERSION: "its worker's program does not say `ready 1` first",
    HaltReason.ABORTED: "each of its worker processes has said `abort`",
}
_GO_ON = {
    HaltReason.ABORTED: "Fix what they need, then reload the configuration (`systemctl reload"
    " premblyd`), which restarts them."
}
LATE_MS = 5 * 60_000  # what has been due for longer is past its time
PAUSED_MS = DAY_MS  # a pause without an end that has lasted for longer may be forgotten
FAILING = 3  # attempts of an action in a row, and no success after them
LAST_TRIED = 500  # events: where those of `premblyd send` are looked for
LAST_ATTEMPTS = 400  # of all actions: where failures in a row are looked for
_FAILED = (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT)


@trouble()
def late(situation: Situation) -> Iterator[Item]:
    overdue = statistics.overdue_of(situation.database, situation.now_ms - LATE_MS)
    if situation.path is None:  # what waits for a host that is away is told as that
        for each in hostlist.waited_for(situation.database):
            overdue.pop(each.action, None)
    for action, *_ in _halts(situation):  # told as halted, which says why
        overdue.pop(action, None)
    for action in wording.lately(situation.database, situation.now_ms - LATE_MS):
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


@trouble()
def failing(situation: Situation) -> Iterator[Item]:
    """Yield actions whose last attempts all failed, save those that make none any more."""
    paused = wording.in_force(situation.database, situation.now_ms)
    for action, count in sorted(_failures_in_a_row(situation).items()):
        if action in paused:
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
        elif outcome in _FAILED and action not in succeeded:
            failures[action] = failures.get(action, 0) + 1
    # An action that runs rarely is not among the last attempts of busy ones.
    attempts, _ = statistics.attempts_of(database, since_ms)
    for action, outcomes in attempts.items():
        if action not in succeeded and AttemptOutcome.SUCCEEDED not in outcomes:
            failed = sum(outcomes.get(outcome, 0) for outcome in _FAILED)
            failures[action] = max(failed, failures.get(action, 0))
    return {action: count for action, count in failures.items() if count >= FAILING}


@trouble()
def halted(situation: Situation) -> Iterator[Item]:
    """Yield actions whose worker processes take nothing, on hosts that are at work."""
    for action, host, reason, since_ms in _halts(situation):
        where = f" on {host}" if situation.path is None else ""
        yield Item(
            text=f"{action} has run nothing{where} since {times.for_people(since_ms)} UTC:"
            f" {_HALTED.get(reason, 'its worker processes accept nothing')}.",
            remedy=_GO_ON.get(
                reason,
                f"Fix the program: `premblyd try {action} FILE` shows what it prints. It is"
                " restarted until it works.",
            )
            + " Waiting deliveries use up no attempts.",
            command=_LOG,
            target=Target(page="deliveries", state="pending", action=action),
            about=f"{action}{where}",
        )


def _halts(situation: Situation) -> list[tuple[Any, ...]]:
    query = (
        Halt.select(Halt.action, Host.name, Halt.reason, fn.MIN(Halt.since_ms))
        .join(Host, on=(Host.worker == Halt.worker))
        .where(Host.ended.is_null())
        .group_by(Halt.action, Host.name, Halt.reason)
        .order_by(Halt.action, Host.name, Halt.reason)
    )
    return queries.tuples(situation.database, query)


@trouble()
def paused(situation: Situation) -> Iterator[Item]:
    """Yield pauses that somebody may have forgotten. Others are told beside what needs somebody."""
    found = wording.in_force(situation.database, situation.now_ms)
    settings = situation.settings
    gone = wording.without_action(situation.database, settings, found) if settings else ()
    for action, pause in found.items():
        is_gone = action in gone
        is_long = pause.until_ms is None and pause.since_ms < situation.now_ms - PAUSED_MS
        if is_gone or is_long:
            yield Item(
                text=f"{action} has been {wording.without_reason(pause)}."
                + (" No configuration has this action." if is_gone else ""),
                remedy=f"`premblyd resume {action}` ends the pause, and its waiting deliveries are"
                " dead then: look at them first."
                if is_gone
                else "Resume it, or set when it resumes (`--until`).",
                command="" if is_gone else f"premblyd resume {action}",
                target=Target(page="deliveries", state="pending", action=action),
            )


@trouble()
def blocked(situation: Situation) -> Iterator[Item]:
    """Yield references of which nothing runs, as a dead delivery is before them (`order`)."""
    for action, count in largest(statistics.blocking_of(situation.database)):
        yield Item(
            text=f"{counted(count, 'dead delivery', 'dead deliveries')} of {action}"
            f" {'blocks' if count == 1 else 'block'} later deliveries for the same reference.",
            remedy=f"Fix the cause, then `premblyd replay --dead --action {action}`. Or cancel"
            f" them, so that the others run: `premblyd cancel --dead --action {action}`, or one by"
            " `--delivery ID`.",
            command=f"premblyd deliveries --blocked --action {action}",
            target=Target(page="deliveries", state="dead", action=action),
            count=count,
        )


@trouble()
def dead(situation: Situation) -> Iterator[Item]:
    settings = situation.settings
    configured = None if settings is None else {action.name for action in settings.actions}
    for action, count in largest(statistics.dead_of(situation.database)):
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


@trouble(has_metric=False)
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


@trouble(passes=False)
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


@trouble(passes=False, needs_nobody=("event matched no action", "events matched no action"))
def unmatched(situation: Situation) -> Iterator[Item]:
    query = (
        EventHour.select(EventHour.response_code, fn.SUM(EventHour.unmatched))
        .where(EventHour.hour_ms >= hour_of(situation.since_ms), EventHour.unmatched > 0)
        .group_by(EventHour.response_code)
    )
    routing = Routing(situation.settings.actions) if situation.settings else None
    found = largest(dict(queries.tuples(situation.database, query)))
    tried = _tried(situation) if found else {}
    for code, count in found:
        # Where an action is for the code, its `types` or `when` left these out: that was wanted.
        is_meant = routing is not None and bool(routing.actions_for_code(code or None))
        is_trial = tried.get(code, 0) >= count
        yield Item(
            severity=Severity.NOTICE if is_meant or is_trial else Severity.WARNING,
            text=f"{counted(count, 'event')} with {_named(code)} matched no action:"
            + (
                " `types` or `when` excluded them from the action for their code, or it was added"
                " later."
                if is_meant
                else f" stored, and nothing ran.{' `premblyd send` sent it.' if is_trial else ''}"
            ),
            remedy="Nothing to do, if that is what you want. Otherwise: `premblyd replay --action"
            " NAME --since 24h --new`."
            if is_meant
            else "Add an action for them (`default` is for every code that no other action names),"
            " reload, then `premblyd replay --action NAME --since 24h --new`.",
            target=Target(page="events", code=_filter(code), since_ms=situation.since_ms),
            count=count,
        )


def _tried(situation: Situation) -> Counter[str]:
    """Count by their codes those of the newest events that `premblyd send` sent for no action."""
    query = Event.select(Event.id, Event.response_code, Event.token, Event.received_at_ms)
    newest = queries.tuples(situation.database, query.order_by(Event.id.desc()).limit(LAST_TRIED))
    since_ms = hour_of(situation.since_ms)
    codes = {
        number: rolled_code(code)
        for number, code, token, at_ms in newest
        if (token or "").startswith(samples.SENDER) and at_ms >= since_ms
    }
    matched = Delivery.select(Delivery.event).where(Delivery.event.in_(list(codes)))
    for (number,) in queries.tuples(situation.database, matched):
        codes.pop(number, None)
    return Counter(codes.values())


@trouble(passes=False)
def new_code(situation: Situation) -> Iterator[Item]:
    """Yield codes that Prembly does not document and that the record has for the first time."""
    found = queries.by_sql(situation.database, _FIRST_OF_CODES, MAX_CODES)
    first_ids = {first_id: str(code) for code, first_id in found if code not in CODES}
    new = Event.select(Event.id).where(
        Event.id.in_(list(first_ids)), Event.received_at_ms >= situation.since_ms
    )
    for code in sorted(first_ids[number] for (number,) in queries.tuples(situation.database, new)):
        yield Item(
            text=f"The first event with {_named(code)}, which Prembly does not document.",
            remedy="Look at the event, and decide which action should run for it.",
            target=Target(page="events", code=_filter(code)),
        )


def _named(code: str) -> str:
    if not code:
        return "no response code"
    return f"code {code}" if is_code(code) else "a code that does not look like Prembly's"


def _filter(code: str) -> str | None:
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
