"""Troubles of daemons and machines: no daemon runs, none can commit, a disk fills, hooks can't
start."""

import os
from collections import defaultdict
from collections.abc import Iterator

from peewee import JOIN, fn

from premblyd.queue.jobs import LACKS
from premblyd.record import queries
from premblyd.record.troubles.trouble import Item, Severity, Situation, Target, trouble
from premblyd.store.tables import Attempt, Host

LAST_ATTEMPTS = 2000  # of all actions: where those are looked for that could not start
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
_WEBHOOKS: defaultdict[int | None, str] = defaultdict(
    lambda: "Webhooks are answered 503, and hooks wait.",
    {
        200: "The daemon reaches it, and stores webhooks.",
        0: "The daemon does not answer its health check.",
        None: "It is not known how webhooks are answered.",
    },
)


@trouble(reads_record=False, has_metric=False)
def daemon(situation: Situation) -> Iterator[Item]:
    if situation.missing_on is not None:
        root = "sudo " if situation.is_managed else ""
        yield Item(
            severity=Severity.URGENT,
            text=f"No daemon runs on {situation.missing_on}: webhooks are not answered.",
            remedy=f"Start it. If it does not start: `{root}premblyd check`.",
            command="sudo systemctl start premblyd" if situation.is_managed else "premblyd serve",
        )


@trouble(means="the database can't store webhooks", reads_record=False)
def database(situation: Situation) -> Iterator[Item]:
    """Yield that webhooks can't be kept, as the daemon says of itself, or `status` sees it."""
    remedy = "The log says why: a full disk, a database that somebody has locked or moved."
    if situation.store_error is not None:
        text = f"The database can't store webhooks: {situation.store_error}. They are answered 503."
        remedy = (
            "Prembly sends most webhooks only once. Free disk space, or restore access to the"
            " database."
        )
    elif situation.unreadable is not None:
        text = f"{situation.unreadable.rstrip('.')}. {_WEBHOOKS[situation.health]}"
        remedy = (
            "Fix that; no restart is needed. Then ask for what was sent in the meantime:"
            " `premblyd reconcile --store`."
        )
    elif situation.health == 0:
        text = "The daemon can't store webhooks now: it does not answer its health check."
    elif situation.health not in (200, None):
        text = f"The daemon can't store webhooks now: its health check says {situation.health}."
    else:
        return
    yield Item(severity=Severity.URGENT, text=text, remedy=remedy, command=_LOG)


@trouble(means="the database's disk is nearly full: disk: 90%", reads_record=False)
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


@trouble(means="hooks can't start, as the machine lacks files, processes or memory")
def lacking(situation: Situation) -> Iterator[Item]:
    """Yield what machines lack, so that no hook could start for all the time that a runner tries
    it."""
    last = Attempt.select(Attempt.worker, Attempt.error, Attempt.finished_at_ms)
    last = last.order_by(Attempt.id.desc()).limit(LAST_ATTEMPTS).alias("last")
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


TROUBLES = (daemon, database, disk, lacking)
