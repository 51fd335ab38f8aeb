"""Trouble of deliveries, past their time, dead, or held by a dead one: kinds of `attention`."""

from collections.abc import Iterator

from premblyd import times
from premblyd.record import hosts, statistics, trouble
from premblyd.record.trouble import Item, Severity, Situation, Target

LATE_MS = 5 * 60_000  # what has been due for longer is past its time


def late(situation: Situation) -> Iterator[Item]:
    overdue = statistics.overdue_of(situation.database, situation.now_ms - LATE_MS)
    if situation.path is None:  # what waits for a host that is away is told as that
        for each in hosts.waited_for(situation.database):
            overdue.pop(each.action, None)
    for action, count in trouble.largest({action: late.count for action, late in overdue.items()}):
        due_ms = overdue[action].since_ms
        since = f" The first since {times.for_people(due_ms)} UTC." if due_ms else ""
        yield Item(
            kind="late",
            severity=Severity.WARNING,
            text=f"{trouble.counted(count, 'delivery', 'deliveries')} of {action} should have run"
            f" by now and did not.{since}",
            remedy="Does the daemon run? Is the hook slow, and may more run at once"
            " (`concurrency`)? With `confirm`: does Prembly answer?",
            command=f"premblyd deliveries --state pending --action {action}",
            target=Target(page="deliveries", state="pending", action=action),
            count=count,
        )


def dead(situation: Situation) -> Iterator[Item]:
    dead = statistics.dead_of(situation.database)
    settings = situation.settings
    configured = None if settings is None else {action.name for action in settings.actions}
    for action, count in trouble.largest(dead):
        is_gone = configured is not None and action not in configured
        yield Item(
            kind="dead",
            severity=Severity.WARNING,
            text=f"{trouble.counted(count, 'delivery', 'deliveries')} of {action} gave up (dead).",
            remedy=f"The configuration has no action {action}: put it back, or cancel them"
            " (`premblyd cancel --delivery ID`)."
            if is_gone
            else "Find out why by the last error, mend it, then"
            f" `premblyd replay --dead --action {action}`. What Prembly contradicted stays dead."
            " What nobody will mend: `premblyd cancel --delivery ID`.",
            command=f"premblyd deliveries --state dead --action {action}",
            target=Target(page="deliveries", state="dead", action=action),
            count=count,
        )


def held(situation: Situation) -> Iterator[Item]:
    """References of which nothing runs, as a dead delivery is before them (`order`)."""
    for action, count in trouble.largest(statistics.held_of(situation.database)):
        yield Item(
            kind="held",
            severity=Severity.WARNING,
            text=f"{trouble.counted(count, 'dead delivery', 'dead deliveries')} of {action}"
            f" {'holds' if count == 1 else 'hold'} up what came later for the same reference.",
            remedy="Mend what it died of, then"
            f" `premblyd replay --dead --action {action}`. Or let the others go on:"
            " `premblyd cancel --delivery ID` of the dead one.",
            command=f"premblyd deliveries --waiting --action {action}",
            target=Target(page="deliveries", state="dead", action=action),
            count=count,
        )
