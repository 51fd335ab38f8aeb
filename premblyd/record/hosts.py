"""The hosts that share a database: which live, which are away, and what waits for one of those."""

import shlex
from dataclasses import dataclass, replace

from peewee import Database, fn

from premblyd.hosts.register import is_working
from premblyd.model.states import State
from premblyd.model.tables import IS_AWAY, IS_LAST_ATTEMPT, Attempt, Delivery, Host
from premblyd.record import queries


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    """A daemon that has not ended, as the others last saw it. `running`: its hooks."""

    name: str
    worker: str
    version: str
    started_at_ms: int
    seen_at_ms: int
    running: int = 0
    lost_after_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHost:
    """A host that works, or that may come back. `state`: works, silent (for a minute), stopped or
    lost. `waiting`: how many deliveries no other host has an action for."""

    name: str
    state: str
    worker: str
    version: str
    started_at_ms: int
    seen_at_ms: int
    ended_at_ms: int | None
    lost_after_ms: int | None
    running: int
    waiting: int
    actions: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitedFor:
    """An action that hosts have which are away, and no other; and how many deliveries wait."""

    action: str
    count: int
    names: list[str]
    since_ms: int


def alive(database: Database, now_ms: int) -> list[HostRow]:
    """Return the daemons that work on the database, the first one first. `now_ms` is by the
    database's clock. Raise StoreUnreadableError when it can't be read."""
    running = dict(queries.tuples(database, _RUNNING))
    query = Host.select(*queries.columns(Host, HostRow)).where(is_working(Host, now_ms))
    found = queries.rows(database, query.order_by(Host.id), HostRow)
    return [replace(host, running=running.get(host.worker, 0)) for host in found]


def known(database: Database, now_ms: int) -> list[KnownHost]:
    """Return the hosts that work, and those that are away and may come back, by name. Raise
    StoreUnreadableError when the record can't be read."""
    running = dict(queries.tuples(database, _RUNNING))
    waiting: dict[str, int] = {}
    for each in waited_for(database):
        for name in each.names:
            waiting[name] = waiting.get(name, 0) + each.count
    query = Host.select(
        Host.name,
        Host.ended,
        Host.worker,
        Host.version,
        Host.started_at_ms,
        Host.seen_at_ms,
        Host.ended_at_ms,
        Host.lost_after_ms,
        Host.actions,
        is_working(Host, now_ms),
    ).where(Host.ended.is_null() | IS_AWAY)
    return [
        KnownHost(
            name=name,
            state=ended or ("works" if works else "silent"),
            worker=worker,
            version=version,
            started_at_ms=started_at_ms,
            seen_at_ms=seen_at_ms,
            ended_at_ms=ended_at_ms,
            lost_after_ms=lost_after_ms,
            running=running.get(worker, 0),
            waiting=waiting.get(name, 0) if ended else 0,
            actions=_names(actions),
        )
        for (
            name,
            ended,
            worker,
            version,
            started_at_ms,
            seen_at_ms,
            ended_at_ms,
            lost_after_ms,
            actions,
            works,
        ) in queries.tuples(database, query.order_by(Host.name, Host.id))
    ]


def waited_for(database: Database) -> list[WaitedFor]:
    """Return the actions that only hosts have which are away, where deliveries wait for one."""
    living = Host.select(Host.actions).where(Host.ended.is_null())
    served = {
        action for (actions,) in queries.tuples(database, living) for action in _names(actions)
    }
    away = Host.select(Host.name, Host.ended_at_ms, Host.actions).where(IS_AWAY)
    hosts_of: dict[str, list[tuple[str, int]]] = {}
    for name, ended_at_ms, actions in queries.tuples(database, away.order_by(Host.name)):
        for action in _names(actions):
            if action not in served:
                hosts_of.setdefault(action, []).append((name, ended_at_ms or 0))
    found = []
    for action, hosts in sorted(hosts_of.items()):
        query = Delivery.select(fn.COUNT(Delivery.id)).where(
            Delivery.action == action, Delivery.due_at_ms.is_null(False)
        )
        [(count,)] = queries.tuples(database, query)
        if count:
            names = [name for name, _ in hosts]
            since_ms = max(ended_at_ms for _, ended_at_ms in hosts)
            found.append(WaitedFor(action=action, count=count, names=names, since_ms=since_ms))
    return found


def forget_command(*names: str) -> str:
    """Return the command that ends hosts for good."""
    return shlex.join(["sudo", "premblyd", "hosts", "forget", *names])


def _names(actions: str) -> list[str]:
    return [name for name in actions.split("\n") if name]


_RUNNING = (
    Delivery.select(Attempt.worker, fn.COUNT(Attempt.id))
    .join(Attempt, on=IS_LAST_ATTEMPT)
    .where(Delivery.state == State.RUNNING)
    .group_by(Attempt.worker)
)
