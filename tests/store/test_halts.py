"""Which actions' worker processes take nothing: kept, for people, as long as it is so."""

import asyncio
import contextlib
from typing import Any

from premblyd.engines.engine import Database
from premblyd.hosts.register import Hosts, of_this_process
from premblyd.model.tables import HaltReason
from premblyd.queue.halts import HaltLog, Halts
from premblyd.record.troubles import table
from premblyd.record.troubles.trouble import Item, Situation
from tests.support.clock import SettableClock
from tests.support.store import NOW_MS, Store
from tests.support.waiting import until

ROWS = "SELECT worker, action, reason FROM halt ORDER BY worker, action"


def found(record: Database) -> list[Item]:
    return table.items(Situation(record=record, now_ms=NOW_MS), kinds=["halted"])


def daemon(store: Store, name: str) -> str:
    """Have a daemon start, after the one before has died; return the worker that it is."""
    own = of_this_process(name)
    store.wait(Hosts(store.writer, own).join_alone(NOW_MS))
    return own.worker


async def kept(store: Store, log: HaltLog, rows: list[Any]) -> None:
    """Run the log's loop until the record has these rows."""
    running = asyncio.create_task(log.run())
    await until(lambda: store.rows(ROWS) == rows)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def test_what_is_halted_is_told_until_it_goes_on(store: Store, record: Database) -> None:
    worker = daemon(store, "host-a")
    halts, clock = Halts(), SettableClock()
    log = HaltLog(store.writer, worker, halts, clock)
    halts.begin("crm", HaltReason.ENDED)
    halts.begin("mail", HaltReason.ABORTED)
    both = [(worker, "crm", "ended"), (worker, "mail", "aborted")]
    store.wait(kept(store, log, both))
    since_ms = store.rows("SELECT DISTINCT since_ms FROM halt")
    halts.begin("crm", HaltReason.NOT_READY)
    clock.set_by_ms = 5000
    store.wait(kept(store, log, [(worker, "crm", "not_ready"), both[1]]))
    assert store.rows("SELECT DISTINCT since_ms FROM halt") == since_ms
    crm, mail = found(record)
    assert (crm.kind, crm.target.action, mail.target.action) == ("halted", "crm", "mail")
    assert "crm runs nothing" in crm.text
    assert "not ready within `start_timeout`" in crm.text
    assert "systemctl reload premblyd" in mail.remedy
    halts.end("crm")
    store.wait(kept(store, log, [both[1]]))
    [only] = found(record)
    assert only.target.action == "mail"


def test_of_a_daemon_that_has_ended_nothing_is_told_and_the_next_start_forgets_it(
    store: Store, record: Database
) -> None:
    first, halts = daemon(store, "host-a"), Halts()
    halts.begin("crm", HaltReason.NOT_FOUND)
    log = HaltLog(store.writer, first, halts, SettableClock())
    store.wait(kept(store, log, [(first, "crm", "not_found")]))
    assert len(found(record)) == 1
    second = daemon(store, "host-a")
    assert found(record) == []
    assert store.rows(ROWS) == [(first, "crm", "not_found")]
    store.wait(kept(store, HaltLog(store.writer, second, Halts(), SettableClock()), []))
