"""Troubles that statistics tell."""

from typing import Any

import pytest

from premblyd.config.models import Config
from premblyd.record import troubles
from premblyd.record.told import Severity
from premblyd.store.engine import Database
from tests.support.jobs import action, settings
from tests.support.queue import FAILED, SUCCEEDED, add_many, claim, finish
from tests.support.store import NOW_MS, Store
from tests.support.troubles import DAY_MS, OLD_MS, found, kinds, run_all
from tests.support.troubles import record as record  # noqa: PLC0414 (a fixture)


def serving(code: str, **keys: Any) -> Config:
    """Return a configuration with an action for this code alone."""
    return settings(actions=(action("crm", code, **keys),))


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


def test_an_action_that_keeps_failing_is_seen_beside_a_busy_one(
    store: Store, record: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(troubles, "LAST_ATTEMPTS", 5)
    add_many(store, 3, "crm")
    for job in claim(store, crm=9).jobs:
        finish(store, job, FAILED, retry_at_ms=NOW_MS + DAY_MS, now_ms=NOW_MS + 1)
    for number in range(6):
        store.add("busy", body=b"busy %d" % number)
    run_all(store, SUCCEEDED, busy=9)
    assert kinds(record) == ["failing"]
