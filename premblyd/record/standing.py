"""How things stand now: who works on the record and since when, and how many deliveries of each
action are overdue or dead. Counted by indexes, never from all of them.

Of which actions an operator lets nothing begin, features say in their shown.py (AT_REST)."""

from dataclasses import dataclass
from typing import Any

from peewee import SQL, fn

from premblyd.feature import added
from premblyd.record import queries
from premblyd.store.engine import Database
from premblyd.store.tables import Delivery, Host

SILENT_MS = 60_000  # for which, and `lost_after`, one that works may not have been seen


def since_ms(database: Database) -> int | None:
    """Return when the first daemon started on the database; None: none has. Raise
    StoreUnreadableError when it can't be read."""
    first = Host.select(Host.started_at_ms).order_by(Host.id)
    at_ms: int | None = queries.value(database, first.limit(1))
    return at_ms


def is_working(host: Any, now_ms: Any) -> Any:
    """Return the condition that a row of `host` is of a daemon that has been seen just now."""
    seen_until_ms = host.seen_at_ms + fn.COALESCE(host.lost_after_ms, 0) + SILENT_MS
    return host.ended.is_null() & (seen_until_ms > now_ms)


def is_served(database: Database, now_ms: int) -> bool:
    """Return whether a daemon has been seen at work just now. `now_ms` is by the database's
    clock. Raise as `since_ms`."""
    query = Host.select(Host.id).where(is_working(Host, now_ms)).limit(1)
    return queries.value(database, query) is not None


def actions_at_work(database: Database) -> set[str]:
    """Return the actions of the hosts that are at work."""
    working = queries.tuples(database, Host.select(Host.actions).where(Host.ended.is_null()))
    return {name for (actions,) in working for name in actions.split("\n") if name}


def at_rest(database: Database, now_ms: int) -> dict[str, Any]:
    """Return the actions of which an operator lets nothing begin now, each with what says so."""
    found: dict[str, Any] = {}
    for ask in added("shown", "AT_REST"):
        found |= ask(database, now_ms)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """How much of an action was due before a time and is in the queue still, and when the first
    thing in the queue was due, or will be."""

    count: int
    since_ms: int | None


def overdue_of(database: Database, before_ms: int) -> dict[str, Overdue]:
    """Return what was due before `before_ms` by action; an action without any is left out."""
    return {action: late for action, late in due(database, before_ms).items() if late.count}


def due(database: Database, before_ms: int) -> dict[str, Overdue]:
    """Return it of every action in the queue: its index has them side by side, so what is not due
    costs nothing."""
    return {
        str(action): Overdue(count=count, since_ms=since_ms)
        for action, count, since_ms in queries.by_sql(database, _DUE, before_ms)
    }


def dead_of(database: Database) -> dict[str, int]:
    """Return how many deliveries are dead, by action: by the index of the dead."""
    return counts(database, Delivery.state == SQL("'dead'"))  # as text, as the index has it


def counts(database: Database, condition: Any) -> dict[str, int]:
    query = (
        Delivery.select(Delivery.action, fn.COUNT(SQL("*")))
        .where(condition)
        .group_by(Delivery.action)
    )
    return {str(action): count for action, count in queries.tuples(database, query)}


_DUE = """
WITH RECURSIVE waiting (name) AS (
    SELECT min(action) FROM delivery WHERE due_at_ms IS NOT NULL
    UNION ALL
    SELECT (SELECT min(action) FROM delivery WHERE due_at_ms IS NOT NULL AND action > name)
    FROM waiting WHERE name IS NOT NULL
)
SELECT name,
       (SELECT count(*) FROM delivery WHERE action = name AND due_at_ms < ?),
       (SELECT min(due_at_ms) FROM delivery WHERE action = name AND due_at_ms IS NOT NULL)
FROM waiting WHERE name IS NOT NULL
"""
