"""Troubles: everything that needs an operator, for `status`, `check`, the console, alerts and
metrics. A table, of the core's and of features'.

To add one, write its question here, or in a feature's shown.py: `@trouble()` makes a row of it, for
the TROUBLES there. And say in the `__init__.py` beside it what it means. Questions must be quick
beside a million events, so they ask indexes and roll-ups, and count no event.

Features also say of which actions they tell otherwise why they are late (NOT_LATE), and how many
attempts of those without a success have failed (FAILURES)."""

import functools
import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice

from peewee import JOIN, fn

from premblyd.feature import added
from premblyd.ground import times
from premblyd.ground.times import HOUR_MS
from premblyd.ground.words import counted
from premblyd.queue.jobs import LACKS
from premblyd.queue.rejections import HINTED_AFTER_MS, ConnectionFault, accepted
from premblyd.record import queries, standing
from premblyd.record.told import (
    MAX_ITEMS,
    Item,
    Severity,
    Situation,
    Target,
    Trouble,
    largest,
    trouble,
)
from premblyd.store.states import AttemptOutcome
from premblyd.store.tables import Attempt, Delivery, Host, Rejection

BURST = 20  # rejections in an hour
NOISE_BURST = 300  # of what anybody at all can cause: a scan for paths
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
LATE_MS = 5 * 60_000  # what has been due for longer is past its time
FAILING = 3  # attempts of an action in a row, and no success after them
LAST_ATTEMPTS = 400  # of all actions: where failures in a row are looked for
FAILED = (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT)


@trouble()
def late(situation: Situation) -> Iterator[Item]:
    overdue = standing.overdue_of(situation.database, situation.now_ms - LATE_MS)
    for ask in added("shown", "NOT_LATE"):
        for action in ask(situation):
            overdue.pop(action, None)
    for action, count in largest({action: late.count for action, late in overdue.items()}):
        due_ms = overdue[action].since_ms
        since = f" The first was due at {times.for_people(due_ms)} UTC." if due_ms else ""
        yield Item(
            text=f"{counted(count, 'delivery', 'deliveries')} of {action} should have run by now,"
            f" but did not.{since}",
            remedy="Is the daemon running? Is the hook slow, so that more must run at once"
            " (`concurrency`)?",
            target=Target(page="deliveries", state="pending", action=action),
            count=count,
        )


@trouble()
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
    for ask in added("shown", "FAILURES"):
        for action, count in ask(situation).items():
            if action not in succeeded:
                failures[action] = max(count, failures.get(action, 0))
    return {action: count for action, count in failures.items() if count >= FAILING}


@trouble()
def dead(situation: Situation) -> Iterator[Item]:
    for action, count in largest(standing.dead_of(situation.database)):
        yield Item(
            text=f"{counted(count, 'delivery', 'deliveries')} of {action} gave up (dead).",
            remedy=f"Fix the cause (see the last error), then `premblyd replay --dead --action"
            f" {action}`; or `premblyd cancel --dead --action {action}`.",
            target=Target(page="deliveries", state="dead", action=action),
            count=count,
        )


@trouble()
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


@trouble()
def signature(situation: Situation) -> Iterator[Item]:
    """Yield endpoints whose webhooks are signed in another form, until they accept one."""
    database, since_ms = situation.database, situation.now_ms - HINTED_AFTER_MS
    query = (
        Rejection.select(Rejection.endpoint, Rejection.at_ms, Rejection.hint)
        .where(Rejection.hint.is_null(False), Rejection.at_ms >= since_ms)
        .order_by(Rejection.at_ms)
    )
    latest = {endpoint: told for endpoint, *told in queries.tuples(database, query)}
    for endpoint, (at_ms, hint) in sorted(latest.items()):
        if not queries.tuples(database, accepted(endpoint, at_ms)):
            yield Item(
                severity=Severity.URGENT,
                text=f"Endpoint {endpoint} refuses webhooks {hint}",
                remedy="If they come from Prembly, write that and reload: this form is then right"
                " beside the others.",
                target=Target(page="rejections", reason="wrong signature", since_ms=since_ms),
                about=endpoint,
            )


LAST_STARTS = 2000  # of all actions: where those are looked for that could not start
LACKING_MS = 60_000  # since then: a runner tells it each 25 s
_FEWER = "or let fewer hooks run at once (`concurrency`)"
_MORE_OF = {
    what: f"Raise `{limit}` of the service (`sudo systemctl edit premblyd`, then restart it),"
    f" {_FEWER}."
    for what, limit in {
        "file descriptors": "LimitNOFILE",
        "processes": "TasksMax",
        "threads": "TasksMax",
        "memory": "MemoryMax",
    }.items()
}
_LOG = "sudo journalctl -u premblyd -n 50"


@trouble(reads_record=False, has_metric=False)
def daemon(situation: Situation) -> Iterator[Item]:
    if situation.missing_on is not None:
        yield Item(
            severity=Severity.URGENT,
            text=f"No daemon runs on {situation.missing_on}: webhooks are not answered.",
            remedy="Start it: `sudo systemctl start premblyd`, or `premblyd serve`. If it does not"
            " start, look at what this says:",
            command="sudo premblyd check",
        )


@trouble(reads_record=False)
def database(situation: Situation) -> Iterator[Item]:
    """Yield that webhooks can't be kept, as the daemon says of itself, or `status` sees it."""
    seen = situation.store_error or situation.health_error
    text = f"The daemon can't store webhooks: {seen}." if seen else situation.unreadable
    if text is not None:
        yield Item(
            severity=Severity.URGENT,
            text=text,
            remedy="They are answered 503, and Prembly sends most only once. The log says why: a"
            " full disk, say, or a database that somebody has locked or moved.",
            command=_LOG,
        )


@trouble(reads_record=False)
def disk(situation: Situation) -> Iterator[Item]:
    if situation.path is None:
        return
    folder, percent = situation.path.absolute().parent, situation.disk_percent
    try:
        space = os.statvfs(folder)
    except OSError:
        return
    used = space.f_blocks - space.f_bfree
    usable = used + space.f_bavail
    used_percent = -(-100 * used // usable) if usable else 100  # as df has it: rounded up
    if used_percent >= percent:
        is_urgent = used_percent >= (percent + 100) / 2
        free_mib = space.f_bavail * space.f_frsize >> 20
        yield Item(
            severity=Severity.URGENT if is_urgent else Severity.WARNING,
            text=f"The database's disk is {used_percent} % full: {free_mib:,} MiB are free.",
            remedy="Free disk space. On a full disk webhooks are answered 503, and Prembly sends"
            " most only once.",
            command=f"df -h {folder}",
        )


@trouble()
def lacking(situation: Situation) -> Iterator[Item]:
    """Yield what machines lack, so that no hook could start for all the time that a runner tries
    it."""
    last = Attempt.select(Attempt.worker, Attempt.error, Attempt.finished_at_ms)
    last = last.order_by(Attempt.id.desc()).limit(LAST_STARTS).alias("last")
    query = (
        Attempt.select(last.c.error, Host.name, fn.COUNT(last.c.error))
        .from_(last)
        .join(Host, JOIN.LEFT_OUTER, on=(Host.worker == last.c.worker))
        .where(
            last.c.finished_at_ms >= situation.now_ms - LACKING_MS,
            last.c.error.startswith(LACKS),
        )
        .group_by(last.c.error, Host.name)
        .order_by(last.c.error, Host.name)
    )
    for error, host, count in queries.tuples(situation.database, query):
        where = f" on {host}" if host and situation.path is None else ""
        yield Item(
            text=f"Hooks could not start{where} for 20 seconds or more: {error}. They are retried,"
            " and use up no attempts.",
            remedy=_MORE_OF.get(error.removeprefix(LACKS), "The log says more (daemon.waits)."),
            command=_LOG,
            target=Target(page="deliveries", state="pending"),
            about=f"{error.removeprefix(LACKS)}{where}",
            count=count,
        )


_OF_CORE = (daemon, database, disk, signature, lacking, late, failing, dead, rejections)


@functools.cache
def table() -> tuple[Trouble, ...]:
    """Return all rows. Features' files import this one, so they are asked later."""
    return (*_OF_CORE, *added("shown", "TROUBLES"))


def items(situation: Situation, *, kinds: Collection[str] | None = None) -> list[Item]:
    """Return what there is, the gravest first; with `kinds`, only what is of these. Raise
    StoreUnreadableError when the record can't be read."""
    found = [
        replace(item, kind=row.kind, command=item.command or item.target.command(situation.now_ms))
        for row in table()
        if kinds is None or row.kind in kinds
        if situation.record is not None or not row.reads_record
        for item in islice(row.ask(situation), MAX_ITEMS)
    ]
    return sorted(found, key=lambda item: -item.severity)


def reminders(situation: Situation) -> list[Item]:
    """Return what `check` tells, too."""
    return items(situation, kinds=[row.kind for row in table() if row.reminds])
