"""What needs attention: each kind is seen when it is there, and gone when it is mended."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from premblyd.config.models import Config
from premblyd.config.secrets import Secret
from premblyd.features.asking.reconciliation import reconciled
from premblyd.features.asking.settings import PremblyApi
from premblyd.features.postgresql import shown
from premblyd.features.postgresql.membership import SharedHosts
from premblyd.ground.times import HOUR_MS
from premblyd.queue.rejections import HINTED_AFTER_MS
from premblyd.record import troubles
from premblyd.record.told import MAX_ITEMS, Item, Severity, Situation, Target
from premblyd.record.troubles import LACKING_MS, LATE_MS
from premblyd.run import starting
from premblyd.store.engine import Database
from tests.support.hosts import identity
from tests.support.jobs import action, settings
from tests.support.queue import FAILED, SUCCEEDED, TIMED_OUT, add_many, claim, finish
from tests.support.store import NOW_MS, Store, new_rejection

DAY_MS = 24 * HOUR_MS
OLD_MS = NOW_MS - 2 * DAY_MS


@pytest.fixture
def record(store: Store, database: Database) -> Database:
    """The record, with an old event: else every code would be new to it."""
    store.add("old", received_at_ms=OLD_MS)
    [job] = claim(store, OLD_MS, old=1).jobs
    finish(store, job, SUCCEEDED, now_ms=OLD_MS)
    return database


def found(record: Database, now_ms: int = NOW_MS, **more: Any) -> list[Item]:
    return troubles.items(Situation(record=record, now_ms=now_ms, **more))


def kinds(record: Database, now_ms: int = NOW_MS, **more: Any) -> list[str]:
    return [item.kind for item in found(record, now_ms, **more)]


def reject(store: Store, count: int, reason: str, at_ms: int = NOW_MS) -> None:
    rejection = new_rejection(reason, at_ms=at_ms)
    store.wait_all(store.inbox.reject(rejection) for _ in range(count))


def serving(code: str, **keys: Any) -> Config:
    """Return a configuration with an action for this code alone."""
    return settings(actions=(action("crm", code, **keys),))


def run_all(store: Store, result: Any, **slots: int) -> None:
    for job in claim(store, NOW_MS, 99, (), **slots).jobs:
        finish(store, job, result)


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
    store: Store, record: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_many(store, 4, "crm")
    jobs = claim(store, crm=9).jobs
    for job, result in zip(jobs, (FAILED, TIMED_OUT, FAILED), strict=False):
        assert kinds(record) == []
        finish(store, job, result, retry_at_ms=NOW_MS + DAY_MS, now_ms=NOW_MS + 1)
    [item] = found(record)
    assert (item.kind, item.count, item.target.action) == ("failing", 3, "crm")
    monkeypatch.setattr(troubles, "LAST_ATTEMPTS", 5)
    for number in range(6):
        store.add("busy", body=b"busy %d" % number)
    run_all(store, SUCCEEDED, busy=9)
    assert kinds(record) == ["failing"], "it is seen beside a busy one"
    monkeypatch.undo()
    finish(store, jobs[3], SUCCEEDED, now_ms=NOW_MS + 2)
    assert kinds(record) == []


def test_deliveries_past_their_time_are_told(store: Store, record: Database) -> None:
    add_many(store, 3, "crm")
    assert kinds(record, NOW_MS + LATE_MS) == []
    [item] = found(record, NOW_MS + LATE_MS + 1)
    assert (item.kind, item.count, item.target.action) == ("late", 3, "crm")
    assert "2023-11-14 22:13:20 UTC" in item.text


def host(store: Store, name: str, *actions: str) -> SharedHosts:
    hosts = SharedHosts(store.writer, identity(name), actions)
    store.wait(hosts.join(NOW_MS))
    return hosts


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


def test_what_waits_for_a_host_that_is_away_is_told_with_both_ways_out(
    store: Store, record: Database
) -> None:
    host(store, "a", "crm")
    away = host(store, "b", "crm", "mail")
    add_many(store, 2, "crm", "mail")
    store.wait(away.leave(NOW_MS))
    late, item = found(record, NOW_MS + LATE_MS + 1)
    assert (item.kind, item.count, item.target.action) == ("host", 2, "mail")
    assert "2 deliveries of mail wait for the host b: no other host has that action" in item.text
    assert "`sudo premblyd hosts forget b`" in item.remedy
    assert (late.kind, late.target.action) == ("late", "crm"), "mail is told once"
    host(store, "c", "mail")
    assert kinds(record, NOW_MS + 1) == []
    store.by_hand("UPDATE host SET ended = 'lost', ended_at_ms = ? WHERE name = 'b'", NOW_MS)
    [item] = found(record)
    assert (item.kind, item.subject) == ("host", "b")
    assert store.call(shown.forget("ada", "b", NOW_MS))
    assert found(record) == []


def test_events_without_an_action_are_told_and_those_that_were_left_out_on_purpose_are_a_notice(
    store: Store, record: Database
) -> None:
    store.add(body=b"1")
    [item] = found(record, settings=serving("00", when="outcome == 'pending'"))
    assert (item.kind, item.severity, item.target.code) == ("unmatched", Severity.NOTICE, "00")
    assert not item.needs_somebody
    for other in (serving("01"), None):
        [item] = found(record, settings=other)
        assert (item.severity, item.count) == (Severity.WARNING, 1)
    assert kinds(record, NOW_MS + 2 * DAY_MS) == []
    store.add(body=b"2", response_code=None)
    [item, _] = found(record)
    assert (item.kind, item.target.code) == ("unmatched", "missing")
    assert item.command == "premblyd events --since 24h --code missing"


def test_a_code_that_is_not_documented_is_new_once_and_not_shown_if_it_may_be_personal(
    store: Store, record: Database
) -> None:
    store.add("old", response_code="01", body=b"0")
    store.add("old", response_code="E9", body=b"1", received_at_ms=NOW_MS)
    [item] = found(record)
    assert (item.kind, item.target.code, item.severity) == ("new_code", "E9", Severity.WARNING)
    assert "Prembly does not document" in item.text
    store.add(response_code="22200000042", body=b"3")
    shown = found(record)
    assert [item.kind for item in shown] == ["new_code", "new_code", "unmatched"]
    assert "2220" not in repr(shown)
    store.add("old", response_code="E9", body=b"2", received_at_ms=NOW_MS + DAY_MS)
    later = found(record, NOW_MS + DAY_MS + 1)
    assert "E9" not in [item.target.code for item in later if item.kind == "new_code"]


def test_an_empty_wallet_is_told_first_until_somebody_is_verified_again(
    store: Store, record: Database
) -> None:
    empty: dict[str, Any] = {"response_code": "03", "outcome": "unknown"}
    store.add("old", body=b"1", received_at_ms=OLD_MS, **empty)
    run_all(store, SUCCEEDED, old=9)
    assert kinds(record) == []
    store.add("old", body=b"2", **empty)
    store.add("old", response_code="00", outcome="unknown", body=b"a transaction")
    store.add("crm", body=b"dies", outcome="unknown")
    run_all(store, FAILED, crm=9)
    [item, *others] = found(record)
    assert (item.kind, item.severity, item.count) == ("wallet", Severity.URGENT, 1)
    store.add("old", response_code="00", outcome="not_verified", body=b"3")
    assert (found(record), "dead" in [each.kind for each in others]) == (others, True)


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


def test_a_downtime_is_told_where_prembly_can_be_asked_until_it_is_reconciled(
    store: Store, record: Database
) -> None:
    from_ms, until_ms = NOW_MS - 5 * HOUR_MS, NOW_MS - HOUR_MS
    for start_ms in (from_ms, from_ms - 40 * DAY_MS):
        store.by_hand(
            "INSERT INTO downtime (from_ms, until_ms) VALUES (?, ?)", start_ms, start_ms + 1
        )
    asking = settings(prembly=PremblyApi.model_construct(api_key=Secret("text", "a-key")))
    (item,) = [item for item in found(record, settings=asking) if item.kind == "downtime"]
    assert item.command == "premblyd reconcile --since 2023-11-14T17:13:20+00:00 --store"
    assert "downtime" not in kinds(record, settings=serving("00"))
    assert "downtime" not in kinds(record)
    mended = {"since_ms": from_ms, "until_ms": until_ms, "now_ms": NOW_MS}
    store.call(lambda transaction: reconciled(transaction, **mended))
    assert "downtime" not in kinds(record, settings=asking)
