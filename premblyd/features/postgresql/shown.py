"""The hosts that share a database: which run, which are away, and which deliveries wait for them;
and what people are told of them and of their server."""

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from peewee import Case, fn

from premblyd.ground import times
from premblyd.ground.words import counted
from premblyd.record import queries
from premblyd.record.operating import Change, write_down
from premblyd.record.standing import actions_at_work, is_working
from premblyd.record.told import Family, Item, Part, Situation, Target, largest, trouble
from premblyd.store.engine import Database, Statement, Transaction, param
from premblyd.store.states import LOST, State
from premblyd.store.tables import IS_AWAY, IS_LAST_ATTEMPT, Attempt, Delivery, Host


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
    running: int = 0
    waiting: int = 0
    actions: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitedFor:
    """An action that hosts have which are away, and no other; and how many deliveries wait."""

    action: str
    count: int
    names: list[str]
    since_ms: int


def known(database: Database, now_ms: int) -> list[KnownHost]:
    """Return the hosts that work, and those that are away and may come back, by name. Raise
    StoreUnreadableError when the record can't be read."""
    running, waiting = _running(database), Counter[str]()
    for each in waited_for(database):
        waiting.update(dict.fromkeys(each.names, each.count))
    works = Case(None, [(is_working(Host, now_ms), "works")], "silent")
    query = Host.select(
        *queries.columns(Host, KnownHost), fn.COALESCE(Host.ended, works).alias("state")
    ).where(Host.ended.is_null() | IS_AWAY)
    return [
        replace(
            host,
            running=running.get(host.worker, 0),
            waiting=0 if host.state in ("works", "silent") else waiting[host.name],
            actions=_names(host.actions),
        )
        for host in queries.rows(database, query.order_by(Host.name, Host.id), KnownHost)
    ]


def waited_for(database: Database) -> list[WaitedFor]:
    """Return the actions that only hosts have which are away, where deliveries wait for one."""
    served = actions_at_work(database)
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
        if count := queries.value(database, query):
            names = [name for name, _ in hosts]
            since_ms = max(ended_at_ms for _, ended_at_ms in hosts)
            found.append(WaitedFor(action=action, count=count, names=names, since_ms=since_ms))
    return found


def forget(actor: str, name: str, now_ms: int) -> Change[bool]:
    """End a host that does not come back, so that nothing waits for it; that is recorded. False:
    there is none of this name, or it works."""

    def forget(transaction: Transaction) -> bool:
        changed = transaction.change(_FORGET, name=name, ended=LOST, now_ms=now_ms)
        if changed:
            write_down(transaction, actor, "forget", now_ms, f"host {name}")
        return bool(changed)

    return forget


def forget_command(*names: str) -> str:
    """Return the command that ends hosts for good."""
    return shlex.join(["sudo", "premblyd", "hosts", "forget", *names])


def _names(actions: Any) -> list[str]:
    return [name for name in str(actions).split("\n") if name]


def _running(database: Database) -> dict[str, int]:
    """Return by worker how many of its hooks run."""
    query = (
        Delivery.select(Attempt.worker, fn.COUNT(Attempt.id))
        .join(Attempt, on=IS_LAST_ATTEMPT)
        .where(Delivery.state == State.RUNNING)
        .group_by(Attempt.worker)
    )
    return dict(queries.tuples(database, query))


_WORKING = Host.alias()
_FORGET = Statement(
    Host.update(
        forgotten_at_ms=param("now_ms"),
        ended=fn.COALESCE(Host.ended, param("ended")),
        ended_at_ms=fn.COALESCE(Host.ended_at_ms, param("now_ms")),
    ).where(
        Host.name == param("name"),
        Host.forgotten_at_ms.is_null(),
        ~fn.EXISTS(
            _WORKING.select(_WORKING.id).where(
                _WORKING.name == param("name"), is_working(_WORKING, param("now_ms"))
            )
        ),
    )
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
            f" host is gone for good: `{forget_command(name)}`. Otherwise this is listed"
            " for a day.",
            command="sudo systemctl status premblyd",
            about=name,
        )


def _waited_for(situation: Situation) -> Iterator[Item]:
    found = {each.action: each for each in waited_for(situation.database)}
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
            f" good: `{forget_command(*each.names)}`. What still waits is dead then, and"
            " `replay` runs it.",
            command="premblyd hosts",
            target=Target(page="deliveries", state="pending", action=action),
            count=count,
        )


def actions_waited_for(situation: Situation) -> set[str]:
    """Return the actions that wait for a host that is away: `host` says so."""
    if situation.path is not None:
        return set()
    return {each.action for each in waited_for(situation.database)}


def _alive(situation: Situation) -> list[KnownHost]:
    """Return the hosts that work, by name; none of a file."""
    if situation.path is not None:
        return []
    hosts = known(situation.database, situation.now_ms)
    return [host for host in hosts if host.state == "works"]


def _lines(situation: Situation) -> Iterator[str]:
    for host in _alive(situation):
        since = times.for_people(host.started_at_ms)
        yield (
            f"Host {host.name}: premblyd {host.version} since {since} UTC, hooks running:"
            f" {host.running}."
        )


def of_hosts(situation: Situation) -> Iterator[Family]:
    """Yield how many work; on a file that is this daemon."""
    alive = 1 if situation.path is not None else len(_alive(situation))
    told = "Daemons that work on the database: this one, and on PostgreSQL others."
    yield Family("premblyd_hosts_alive", told, alive)


STATUS = (Part("hosts", _alive, _lines, nothing=[]),)
FAMILIES = (of_hosts,)
TROUBLES = (host,)
NOT_LATE = (actions_waited_for,)
