"""The hosts that share a database: which live, and which were lost and have not come back."""

from collections.abc import Iterator
from dataclasses import dataclass

from peewee import Database, fn

from premblyd import times
from premblyd.record import fetching
from premblyd.record.trouble import Item, Severity, Situation, Target
from premblyd.store.hosts import LOST
from premblyd.store.models import IS_LAST_ATTEMPT, Attempt, Delivery, Host, State

SILENT_MS = 60_000  # who has not been seen for so long does not count as alive


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    """A daemon that has not ended, as the others last saw it. `running`: its hooks."""

    name: str
    worker: str
    version: str
    started_at_ms: int
    seen_at_ms: int
    running: int


def alive(database: Database, now_ms: int) -> list[HostRow]:
    """Return the daemons that work on the database, the first one first. `now_ms` is by the
    database's clock. Raise StoreUnreadableError when it can't be read."""
    running = dict(fetching.plain_tuples(database, _RUNNING))
    query = Host.select(
        Host.name, Host.worker, Host.version, Host.started_at_ms, Host.seen_at_ms
    ).where(Host.ended.is_null(), Host.seen_at_ms > now_ms - SILENT_MS)
    return [
        HostRow(
            name=name,
            worker=worker,
            version=version,
            started_at_ms=started_at_ms,
            seen_at_ms=seen_at_ms,
            running=running.get(worker, 0),
        )
        for name, worker, version, started_at_ms, seen_at_ms in fetching.plain_tuples(
            database, query.order_by(Host.id)
        )
    ]


def lost(situation: Situation) -> Iterator[Item]:
    """Yield hosts that died and have not come back, where several share a database."""
    if situation.path is not None:  # a file: there is one host, and who reads this knows of it
        return
    again = Host.alias()
    came_back = again.select(again.id).where(again.name == Host.name, again.id > Host.id)
    query = Host.select(Host.name, fn.MAX(Host.ended_at_ms)).where(
        Host.ended == LOST, Host.ended_at_ms > situation.since_ms, ~fn.EXISTS(came_back)
    )
    for name, ended_at_ms in fetching.plain_tuples(
        situation.database, query.group_by(Host.name).order_by(Host.name)
    ):
        yield Item(
            kind="host",
            severity=Severity.WARNING,
            text=f"The host {name} was lost at {times.for_people(ended_at_ms)} UTC and has not come"
            " back. What it was running has run elsewhere.",
            remedy="On that machine, see whether premblyd runs and reaches the database. If it is"
            " gone for good, this is told for a day.",
            command="sudo systemctl status premblyd",
            target=Target(page=""),
            count=1,
            about=name,
        )


_RUNNING = (
    Delivery.select(Attempt.worker, fn.COUNT(Attempt.id))
    .join(Attempt, on=IS_LAST_ATTEMPT)
    .where(Delivery.state == State.RUNNING)
    .group_by(Attempt.worker)
)
