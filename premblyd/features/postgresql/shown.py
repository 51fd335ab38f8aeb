"""What people are told of servers and hosts."""

from collections.abc import Iterator

from peewee import fn

from premblyd.config.values import duration_text
from premblyd.features.postgresql import hostlist
from premblyd.features.postgresql.hostlist import KnownHost
from premblyd.features.postgresql.settings import HOSTS, Server
from premblyd.ground import times
from premblyd.ground.words import counted, duration
from premblyd.record import queries
from premblyd.record.told import Family, Item, Part, Situation, Target, largest, trouble
from premblyd.store.states import LOST
from premblyd.store.tables import Host

SNAPSHOT_MS = 5 * 60_000  # that a transaction may be open: a page of a report takes seconds


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


def waited_for(situation: Situation) -> set[str]:
    """Return the actions that wait for a host that is away: `host` says so."""
    if situation.path is not None:
        return set()
    return {each.action for each in hostlist.waited_for(situation.database)}


def _alive(situation: Situation) -> list[KnownHost]:
    is_file = situation.path is not None
    return [] if is_file else hostlist.alive(situation.database, situation.now_ms)


def _lines(situation: Situation) -> Iterator[str]:
    for host in _alive(situation):
        since = times.for_people(host.started_at_ms)
        yield (
            f"Host {host.name}: premblyd {host.version} since {since} UTC, hooks running:"
            f" {host.running}."
        )


def reminders(situation: Situation) -> Iterator[str]:
    """Yield the hosts for which another time than here makes one count as lost."""
    settings = situation.settings
    if settings is None or not isinstance(settings.database, Server):
        return
    own = HOSTS.of(settings)
    for host in hostlist.alive(situation.database, situation.now_ms):
        if host.name != own.name and host.lost_after_ms not in (None, own.lost_after_ms):
            yield (
                f"lost_after is {duration_text(own.lost_after_ms)} here, and"
                f" {duration_text(host.lost_after_ms)} on {host.name}: each counts as lost"
                " after its own. Set one value for all hosts, and restart them"
            )


def of_hosts(situation: Situation) -> Iterator[Family]:
    """Yield how many work; on a file that is this daemon."""
    is_file = situation.path is not None
    alive = 1 if is_file else len(hostlist.alive(situation.database, situation.now_ms))
    told = "Daemons that work on the database: this one, and on PostgreSQL others."
    yield Family("premblyd_hosts_alive", told, alive)


REMINDERS = (reminders,)
STATUS = (Part("hosts", _alive, _lines, nothing=[], is_first=True),)
FAMILIES = (of_hosts,)
TROUBLES = (snapshot, host)
NOT_LATE = (waited_for,)
