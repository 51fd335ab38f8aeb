"""Troubles of daemons and machines: no daemon runs, none can commit, a disk fills, hooks can't
start, a host is away, a clock is wrong, an alert was not sent."""

import os
from collections import defaultdict
from collections.abc import Iterator
from functools import partial

from peewee import JOIN, fn

from premblyd.config.keys import value_of
from premblyd.features.keeping import trusted
from premblyd.features.postgresql import hostlist
from premblyd.features.watch.tables import Alert
from premblyd.ground import times
from premblyd.ground.times import DAY_MS
from premblyd.ground.words import counted, duration
from premblyd.queue.jobs import LACKS
from premblyd.record import events, queries
from premblyd.record.troubles.trouble import Item, Severity, Situation, Target, largest, trouble
from premblyd.store.states import LOST
from premblyd.store.tables import Attempt, Downtime, Host

DOWNTIME_DAYS = 30  # what is older was lived with
SNAPSHOT_MS = 5 * 60_000  # that a transaction may be open: a page of a report takes seconds
GRACE_MS = 60_000  # what is this new, `reconcile` leaves out: it may be on its way
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


@trouble(reads_record=False)
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


@trouble(reminds=True)
def snapshot(situation: Situation) -> Iterator[Item]:
    """Yield that somebody's transaction keeps a server from cleaning up."""
    oldest = situation.database.oldest_transaction(SNAPSHOT_MS)
    if oldest is not None:
        program = f" of {oldest.program}" if oldest.program else ""
        yield Item(
            text=f"A transaction{program} (process {oldest.pid} of the PostgreSQL server) has been"
            f" open for {duration(oldest.open_for_ms)}: until it ends, the server can't clean up"
            " what is finished, and the daemon gets slower.",
            remedy="If it is a dump or a report, let it finish, and make it shorter next time."
            f" Otherwise end it: `SELECT pg_terminate_backend({oldest.pid})`.",
            command="premblyd status",
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


@trouble(reminds=True)
def clock(situation: Situation) -> Iterator[Item]:
    """Yield that the clock is far from the trusted time; and that the record has what is yet to
    come, by more than a clock is wrong that somebody looks after."""
    trusted_ms = situation.database.look(partial(trusted.read, wall_ms=situation.now_ms))
    if trusted.is_apart(trusted_ms, situation.now_ms):
        now, passed = times.for_people(situation.now_ms), times.for_people(trusted_ms)
        yield Item(
            severity=Severity.URGENT,
            text=f"The clock says {now} UTC, but by the time that has passed it should be {passed}"
            " UTC: `retention` counts from the earlier.",
            remedy="If `timedatectl` shows the wrong time, set it. If it is right (no daemon ran"
            " for days, say), the difference shrinks by a day each day; this command ends it at"
            " once, and deletes what has expired by the clock.",
            command="sudo -u premblyd premblyd record prune --trust-clock",
            about="trusted time",
        )
    latest_ms = events.latest_ms(situation.database)
    if latest_ms is not None and latest_ms - situation.now_ms >= DAY_MS:
        now, latest = times.for_people(situation.now_ms), times.for_people(latest_ms)
        yield Item(
            severity=Severity.URGENT,
            text=f"The clock says {now} UTC, but an event was received at {latest} UTC: it is"
            " wrong now, or was then.",
            remedy="`timedatectl` shows the time, and whether it is synchronised.",
            command="timedatectl",
        )


@trouble()
def host(situation: Situation) -> Iterator[Item]:
    """Yield what waits for hosts that are away, and hosts that died and have not come back, where
    several share a database."""
    if situation.path is not None:  # a file: there is one host, and who reads this knows of it
        return
    yield from _waited_for(situation)
    again = Host.alias()
    came_back = again.select(again.id).where(again.name == Host.name, again.id > Host.id)
    query = Host.select(Host.name, fn.MAX(Host.ended_at_ms)).where(
        Host.ended == LOST,
        Host.ended_at_ms > situation.since_ms,
        Host.forgotten_at_ms.is_null(),
        ~fn.EXISTS(came_back),
    )
    for name, ended_at_ms in queries.tuples(
        situation.database, query.group_by(Host.name).order_by(Host.name)
    ):
        yield Item(
            text=f"The host {name} was lost at {times.for_people(ended_at_ms)} UTC and has not come"
            " back. Its hooks have run elsewhere.",
            remedy="On that machine, check that premblyd runs and reaches the database. If the"
            f" host is gone for good: `{hostlist.forget_command(name)}`. Otherwise this is listed"
            " for a day.",
            command="sudo systemctl status premblyd",
            about=name,
        )


def _waited_for(situation: Situation) -> Iterator[Item]:
    found = {each.action: each for each in hostlist.waited_for(situation.database)}
    for action, count in largest({action: each.count for action, each in found.items()}):
        each = found[action]
        is_one = len(each.names) == 1
        names = f"the host {each.names[0]}" if is_one else f"the hosts {', '.join(each.names)}"
        yield Item(
            text=f"{counted(count, 'delivery', 'deliveries')} of {action}"
            f" {'waits' if count == 1 else 'wait'} for {names}: no other host has that action, and"
            f" {'it has' if is_one else 'they have'} been away since"
            f" {times.for_people(each.since_ms)} UTC.",
            remedy="Start premblyd there, or add the action to another host. If it is gone for"
            f" good: `{hostlist.forget_command(*each.names)}`. What still waits is dead then, and"
            " `replay` runs it.",
            command="premblyd hosts",
            target=Target(page="deliveries", state="pending", action=action),
            count=count,
        )


@trouble()
def alert(situation: Situation) -> Iterator[Item]:
    """Yield alerts whose last hook failed, so that nobody was told."""
    query = Alert.select(Alert.name, Alert.error, Alert.output).where(
        Alert.kind == "", Alert.at_ms >= situation.since_ms
    )
    settings = situation.settings
    names = {each.name for each in value_of("alerts", settings, ())} if settings else None
    for name, error, output in queries.tuples(situation.database, query):
        if names is not None and name not in names:
            continue
        printed = f" It printed: {' '.join(output.split())}" if output else ""
        yield Item(
            text=f"The alert {name} could not be sent: {error or 'its hook failed'}.{printed}",
            remedy="Nobody was notified. Fix its hook, and check that it works.",
            command=f"sudo premblyd try --alert {name}",
            about=name,
        )


@trouble(reminds=True)
def downtime(situation: Situation) -> Iterator[Item]:
    """Yield times in which no webhook could be stored, and after which nobody has looked whether
    something is missing, where Prembly can be asked for it."""
    settings = situation.settings
    prembly = None if settings is None else value_of("prembly", settings)
    if prembly is None or prembly.api_key is None:
        return
    since_ms = situation.now_ms - DOWNTIME_DAYS * DAY_MS
    query = (
        Downtime.select(Downtime.from_ms, Downtime.until_ms)
        .where(Downtime.reconciled_at_ms.is_null(), Downtime.until_ms >= since_ms)
        .order_by(Downtime.id)
    )
    for from_ms, until_ms in queries.tuples(situation.database, query):
        start, end = (times.for_people(ms) for ms in (from_ms, until_ms))
        yield Item(
            text=f"From {start} to {end} UTC no webhook could be stored.",
            remedy="Prembly sends most webhooks only once: ask it for the missed ones"
            + (", in a minute." if situation.now_ms - until_ms < GRACE_MS else "."),
            # To the second before.
            command=f"premblyd reconcile --since {times.iso(from_ms // 1000 * 1000)} --store",
        )
