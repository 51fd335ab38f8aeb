"""Trouble of deliveries: past their time, failing, dead, or held by a dead one."""

from collections.abc import Iterator

from peewee import fn

from premblyd import times
from premblyd.model.states import AttemptOutcome
from premblyd.model.tables import Attempt, AttemptHour, Delivery
from premblyd.queue.rollups import hour_of
from premblyd.record import fetching, hosts, statistics
from premblyd.record.troubles.trouble import Item, Situation, Target, Trouble, largest
from premblyd.words import counted

LATE_MS = 5 * 60_000  # what has been due for longer is past its time
FAILING = 3  # attempts of an action in a row, and no success after them
LAST_ATTEMPTS = 400  # of all actions: where failures in a row are looked for
_FAILED = (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT)


def _late(situation: Situation) -> Iterator[Item]:
    overdue = statistics.overdue_of(situation.database, situation.now_ms - LATE_MS)
    if situation.path is None:  # what waits for a host that is away is told as that
        for each in hosts.waited_for(situation.database):
            overdue.pop(each.action, None)
    for action, count in largest({action: late.count for action, late in overdue.items()}):
        due_ms = overdue[action].since_ms
        since = f" The first since {times.for_people(due_ms)} UTC." if due_ms else ""
        yield Item(
            text=f"{counted(count, 'delivery', 'deliveries')} of {action} should have run"
            f" by now and did not.{since}",
            remedy="Does the daemon run? Is the hook slow, and may more run at once"
            " (`concurrency`)? With `confirm`: does Prembly answer?",
            target=Target(page="deliveries", state="pending", action=action),
            count=count,
        )


def _failing(situation: Situation) -> Iterator[Item]:
    """Yield actions whose last attempts all failed."""
    for action, count in sorted(_failures_in_a_row(situation).items()):
        yield Item(
            text=f"{action} keeps failing: its last {counted(count, 'attempt')}"
            " failed, and none has succeeded since.",
            remedy="See what the hook said, and whether its target is up.",
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
    for action, outcome, finished_at_ms in fetching.plain_tuples(database, query):
        if not isinstance(finished_at_ms, int) or finished_at_ms < since_ms:
            continue
        if outcome == AttemptOutcome.SUCCEEDED:
            succeeded.add(action)
        elif outcome in _FAILED and action not in succeeded:
            failures[action] = failures.get(action, 0) + 1
    # An action that runs rarely is not among the last attempts of busy ones.
    for action, outcomes in _attempts_by_outcome(situation).items():
        if action not in succeeded and AttemptOutcome.SUCCEEDED not in outcomes:
            failed = sum(outcomes.get(outcome, 0) for outcome in _FAILED)
            failures[action] = max(failed, failures.get(action, 0))
    return {action: count for action, count in failures.items() if count >= FAILING}


def _attempts_by_outcome(situation: Situation) -> dict[str, dict[str, int]]:
    query = (
        AttemptHour.select(AttemptHour.action, AttemptHour.outcome, fn.SUM(AttemptHour.attempts))
        .where(AttemptHour.hour_ms >= hour_of(situation.since_ms))
        .group_by(AttemptHour.action, AttemptHour.outcome)
    )
    found: dict[str, dict[str, int]] = {}
    for action, outcome, count in fetching.plain_tuples(situation.database, query):
        found.setdefault(action, {})[outcome] = count
    return found


def _dead(situation: Situation) -> Iterator[Item]:
    settings = situation.settings
    configured = None if settings is None else {action.name for action in settings.actions}
    for action, count in largest(statistics.dead_of(situation.database)):
        is_gone = configured is not None and action not in configured
        yield Item(
            text=f"{counted(count, 'delivery', 'deliveries')} of {action} gave up (dead).",
            remedy=f"The configuration has no action {action}: put it back, or cancel them"
            " (`premblyd cancel --delivery ID`)."
            if is_gone
            else "Find out why by the last error, mend it, then"
            f" `premblyd replay --dead --action {action}`. What Prembly contradicted stays dead."
            " What nobody will mend: `premblyd cancel --delivery ID`.",
            target=Target(page="deliveries", state="dead", action=action),
            count=count,
        )


def _held(situation: Situation) -> Iterator[Item]:
    """Yield references of which nothing runs, as a dead delivery is before them (`order`)."""
    for action, count in largest(statistics.held_of(situation.database)):
        yield Item(
            text=f"{counted(count, 'dead delivery', 'dead deliveries')} of {action}"
            f" {'holds' if count == 1 else 'hold'} up what came later for the same reference.",
            remedy="Mend what it died of, then"
            f" `premblyd replay --dead --action {action}`. Or let the others go on:"
            " `premblyd cancel --delivery ID` of the dead one.",
            command=f"premblyd deliveries --waiting --action {action}",
            target=Target(page="deliveries", state="dead", action=action),
            count=count,
        )


TROUBLES = (
    Trouble(kind="late", ask=_late),
    Trouble(kind="failing", ask=_failing),
    Trouble(kind="held", ask=_held),
    Trouble(kind="dead", ask=_dead),
)
