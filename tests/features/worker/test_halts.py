"""Which actions' worker processes take nothing: kept, for people, as long as it is so."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from premblyd.features.worker.daemon import HaltLog
from premblyd.queue.register import Hosts, Identity
from premblyd.record import troubles
from premblyd.record.told import Item, Situation
from premblyd.run.process import Halts
from premblyd.store.engine import Database
from premblyd.store.states import HaltReason
from tests.support.clock import SettableClock
from tests.support.engines import place as place  # noqa: PLC0414 (a fixture)
from tests.support.store import NOW_MS, Store
from tests.support.waiting import until

HALT = "INSERT INTO halt (worker, action, since_ms, reason) VALUES (?, 'crm', 5, 'not_found')"
ROWS = "SELECT worker, action, reason FROM halt ORDER BY worker, action"


def found(record: Database) -> list[Item]:
    return troubles.items(Situation(record=record, now_ms=NOW_MS), kinds=["halted"])


def daemon(store: Store, name: str) -> str:
    """Have a daemon start, after the one before has died; return the worker that it is."""
    own = Identity.of_this_process(name)
    store.wait(Hosts(store.writer, own).join_alone(NOW_MS))
    return own.worker


@contextlib.asynccontextmanager
async def logging(store: Store, worker: str, halts: Halts) -> AsyncIterator[SettableClock]:
    """Run the log's loop."""
    clock = SettableClock()
    running = asyncio.create_task(HaltLog(store.writer, worker, halts, clock).run())
    try:
        yield clock
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def test_what_is_halted_is_told_until_it_goes_on(store: Store, record: Database) -> None:
    worker, halts = daemon(store, "host-a"), Halts()

    async def told() -> None:
        async with logging(store, worker, halts) as clock:
            halts.begin("crm", HaltReason.ENDED)
            halts.begin("mail", HaltReason.ABORTED)
            both = [(worker, "crm", "ended"), (worker, "mail", "aborted")]
            await until(lambda: store.rows(ROWS) == both)
            since_ms = store.rows("SELECT since_ms FROM halt ORDER BY action")
            clock.set_by_ms = 5000
            halts.begin("crm", HaltReason.NOT_READY)
            await until(lambda: store.rows(ROWS) == [(worker, "crm", "not_ready"), both[1]])
            assert store.rows("SELECT since_ms FROM halt ORDER BY action") == since_ms
            crm, mail = found(record)
            assert (crm.kind, crm.target.action, mail.target.action) == ("halted", "crm", "mail")
            assert crm.text.startswith("crm has run nothing on host-a since ")
            assert "not ready within `start_timeout`" in crm.text
            assert "systemctl reload premblyd" in mail.remedy
            halts.end("crm")
            await until(lambda: store.rows(ROWS) == both[1:])
            assert [item.target.action for item in found(record)] == ["mail"]

    store.wait(told())


def test_of_a_daemon_that_has_ended_nothing_is_told_and_the_next_start_forgets_it(
    store: Store, record: Database
) -> None:
    first = daemon(store, "host-a")
    store.by_hand(HALT, first)
    assert len(found(record)) == 1
    second = daemon(store, "host-a")
    assert found(record) == []

    async def forgotten() -> None:
        async with logging(store, second, Halts()):
            await until(lambda: store.rows(ROWS) == [])

    store.wait(forgotten())
