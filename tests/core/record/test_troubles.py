"""What needs attention: each kind is seen when it is there, and gone when it is mended."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from premblyd.ground.times import HOUR_MS
from premblyd.queue.rejections import HINTED_AFTER_MS
from premblyd.record import troubles
from premblyd.record.told import MAX_ITEMS, Severity, Target
from premblyd.record.troubles import LACKING_MS, LATE_MS
from premblyd.run import starting
from premblyd.store.engine import Database
from tests.support.queue import FAILED, SUCCEEDED, TIMED_OUT, add_many, claim, finish
from tests.support.store import NOW_MS, Store, new_rejection
from tests.support.troubles import DAY_MS, OLD_MS, found, kinds, run_all
from tests.support.troubles import record as record  # noqa: PLC0414 (a fixture)


def reject(store: Store, count: int, reason: str, at_ms: int = NOW_MS) -> None:
    rejection = new_rejection(reason, at_ms=at_ms)
    store.wait_all(store.inbox.reject(rejection) for _ in range(count))


def test_nothing_needs_attention_where_all_went_well(store: Store, record: Database) -> None:
    add_many(store, 3, "crm")
    run_all(store, SUCCEEDED, crm=9)
    assert found(record, path=Path("/"), disk_percent=101) == []


def test_dead_deliveries_are_told_by_action_until_they_are_replayed(
    store: Store, record: Database
) -> None:
    add_many(store, 2, "crm")
    run_all(store, FAILED, crm=9)
    [item] = found(record)
    assert (item.kind, item.count, item.needs_somebody) == ("dead", 2, True)
    assert item.command == "premblyd deliveries --state dead --action crm"
    assert item.target == Target(page="deliveries", state="dead", action="crm")
    assert kinds(record, NOW_MS + 9 * DAY_MS) == ["dead"], "however old they are"
    names = [f"a{number}" for number in range(MAX_ITEMS + 3)]
    store.add(*names, body=b"for many")
    run_all(store, FAILED, **dict.fromkeys(names, 1))
    assert kinds(record).count("dead") == MAX_ITEMS


def test_an_action_that_keeps_failing_is_told_until_it_succeeds(
    store: Store, record: Database
) -> None:
    add_many(store, 4, "crm")
    jobs = claim(store, crm=9).jobs
    for job, result in zip(jobs, (FAILED, TIMED_OUT, FAILED), strict=False):
        assert kinds(record) == []
        finish(store, job, result, retry_at_ms=NOW_MS + DAY_MS, now_ms=NOW_MS + 1)
    [item] = found(record)
    assert (item.kind, item.count, item.target.action) == ("failing", 3, "crm")
    finish(store, jobs[3], SUCCEEDED, now_ms=NOW_MS + 2)
    assert kinds(record) == []


def test_deliveries_past_their_time_are_told(store: Store, record: Database) -> None:
    add_many(store, 3, "crm")
    assert kinds(record, NOW_MS + LATE_MS) == []
    [item] = found(record, NOW_MS + LATE_MS + 1)
    assert (item.kind, item.count, item.target.action) == ("late", 3, "crm")
    assert "2023-11-14 22:13:20 UTC" in item.text


def test_what_the_machine_lacks_for_hooks_is_told_until_they_can_start(
    store: Store, record: Database
) -> None:
    add_many(store, 2, "crm")
    lacking = starting.lacking("file descriptors")
    [job, other] = claim(store, crm=9).jobs
    finish(store, job, lacking, retry_at_ms=NOW_MS)
    finish(store, other, FAILED, retry_at_ms=NOW_MS + DAY_MS)
    [item] = found(record, NOW_MS + LACKING_MS)
    assert (item.kind, item.count) == ("lacking", 1)
    assert "20 seconds or more: the machine lacks file descriptors." in item.text
    assert item.remedy.startswith("Raise `LimitNOFILE` of the service")
    assert kinds(record, NOW_MS + LACKING_MS + 1) == []


def test_a_burst_of_rejections_is_told_with_what_it_may_mean(
    store: Store, record: Database
) -> None:
    reject(store, troubles.BURST - 1, "wrong signature")
    reject(store, troubles.BURST, "no such path")  # anybody at all causes these
    reject(store, troubles.BURST, "missing token", NOW_MS - HOUR_MS - 1)
    assert kinds(record) == []
    reject(store, 1, "wrong signature")
    [item] = found(record)
    told = (item.kind, item.count, item.target.reason)
    assert told == ("rejections", troubles.BURST, "wrong signature")
    assert "webhooks are being lost" in item.remedy


def test_another_form_of_signature_is_told_until_the_endpoint_accepts_a_webhook(
    store: Store, record: Database
) -> None:
    """(The old event was accepted two days before.)"""
    later_ms = OLD_MS + HINTED_AFTER_MS
    refused = new_rejection("wrong signature", at_ms=later_ms, hint="signed …: write this")
    assert store.wait(store.inbox.reject(refused)) == "signed …: write this"
    [item] = found(record, later_ms)
    assert (item.kind, item.severity, item.subject) == ("signature", Severity.URGENT, "prembly")
    assert item.text == "Endpoint prembly refuses webhooks signed …: write this"
    store.add("now", received_at_ms=later_ms, body=b"now")
    assert kinds(record, later_ms) == ["signature"]
    store.add("then", received_at_ms=later_ms + 1, body=b"then")
    assert "signature" not in kinds(record, later_ms)
    assert store.wait(store.inbox.reject(refused)) is None


def test_a_disk_that_is_nearly_full_is_told(
    record: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = {"f_blocks": 1000, "f_bfree": 150, "f_bavail": 100, "f_frsize": 1 << 20}
    # As df: 850 of 950, rounded up.
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**disk))
    [item] = found(record, path=tmp_path, disk_percent=90)
    assert (item.kind, item.severity) == ("disk", Severity.WARNING)
    assert "90 % full: 100 MiB are free" in item.text
    assert kinds(record, path=tmp_path, disk_percent=91) == []
    disk |= {"f_bfree": 60, "f_bavail": 10}
    assert found(record, path=tmp_path)[0].severity is Severity.URGENT
    monkeypatch.undo()
    assert kinds(record, path=Path("/nowhere/at/all.db")) == []
