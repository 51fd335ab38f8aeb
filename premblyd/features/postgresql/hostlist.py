"""The hosts that share a database: which run, which are away, and which deliveries wait for
them."""

import shlex
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from peewee import Case, fn

from premblyd.queue.register import is_working
from premblyd.record import queries
from premblyd.record.operating import Change, write_down
from premblyd.record.standing import actions_at_work
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


def alive(database: Database, now_ms: int) -> list[KnownHost]:
    """Return the hosts that work, by name. `now_ms` is by the database's clock. Raise
    StoreUnreadableError when it can't be read."""
    return [host for host in known(database, now_ms) if host.state == "works"]


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
