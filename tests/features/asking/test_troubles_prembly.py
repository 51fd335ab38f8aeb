"""Trouble with what is asked of Prembly: seen when it is there, and gone when it is mended."""

import pytest

from premblyd.features.asking.listing import DISMISSED
from premblyd.features.asking.shown import UNREACHABLE_MS
from premblyd.ground.times import DAY_MS
from premblyd.record import troubles
from premblyd.record.operating import Operator
from premblyd.record.told import Item, Severity, Situation
from premblyd.store.engine import Database
from tests.support.store import NOW_MS, Store

KINDS = ("contradicted", "doubted", "differs", "prembly", "given_up")
ASKED = """INSERT INTO inquiry (at_ms, purpose, result, duration_ms) VALUES (?, ?, ?, 1)"""
ABOUT = """INSERT INTO inquiry (at_ms, purpose, result, duration_ms, event_id)
    VALUES (?, 'confirm', ?, 1, ?)"""
AWAITED = """INSERT INTO awaited (endpoint, reference, event_id, state, due_at_ms, created_at_ms,
    finished_at_ms) VALUES ('prembly', 'ref-1', 1, ?, ?, 0, ?)"""


@pytest.fixture(name="record")
def read_record(store: Store, database: Database) -> Database:
    """A record with an event and its delivery; others here have one to reconcile."""
    store.add("crm")
    return database


def found(record: Database) -> list[Item]:
    return troubles.items(Situation(record=record, now_ms=NOW_MS), kinds=KINDS)


def test_what_prembly_contradicts_is_urgent_for_a_day(store: Store, record: Database) -> None:
    for reference in ("ref-2", "ref-3"):
        store.add("crm", reference=reference, body=reference.encode())
    store.by_hand(ABOUT, NOW_MS - DAY_MS - 1, "contradicted", 1)
    store.by_hand(ABOUT, NOW_MS, "confirmed", 2)
    assert found(record) == []
    for event_id in (2, 3, 3):
        store.by_hand(ABOUT, NOW_MS, "contradicted", event_id)
    [item] = found(record)
    assert item.command == "premblyd events --contradicted"
    assert (item.kind, item.severity, item.count) == ("contradicted", Severity.URGENT, 2)
    assert item.text.startswith("2 events were contradicted by Prembly")


def dismiss(store: Store, event_id: int) -> None:
    [change] = Operator(actor="amina").record_events(DISMISSED, [event_id], NOW_MS)
    assert store.call(change) == 1


def test_what_is_doubted_is_told_until_it_is_dismissed_or_prembly_was_asked(
    store: Store, record: Database
) -> None:
    doubt = "UPDATE event SET doubt = 'face', outcome = 'unknown', received_at_ms = ?"
    store.by_hand(doubt, NOW_MS - 30 * DAY_MS)
    store.add("crm", body=b"clean")
    [item] = found(record)
    assert (item.kind, item.severity, item.count) == ("doubted", Severity.WARNING, 1)
    assert item.text.startswith("1 event says VERIFIED, but also something that does not fit")
    assert "premblyd unsettled --dismiss EVENT" in item.remedy
    dismiss(store, 1)
    assert found(record) == []
    store.by_hand("DELETE FROM operator_action")
    store.by_hand(ABOUT.replace("confirm", "pending"), NOW_MS, "unavailable", 1)
    assert len(found(record)) == 1
    store.by_hand(ABOUT.replace("confirm", "pending"), NOW_MS, "confirmed", 1)
    assert found(record) == []
    store.by_hand("DELETE FROM inquiry")
    store.by_hand("UPDATE event SET reference = 'other' WHERE id = 1")
    store.by_hand(ABOUT.replace("confirm", "reconcile"), NOW_MS - 30 * DAY_MS, "contradicted", 1)
    [item] = found(record)
    assert (item.kind, item.count) == ("differs", 1)
    dismiss(store, 1)
    assert found(record) == []


def test_a_refused_key_is_told_at_once_until_a_question_is_answered(
    store: Store, record: Database
) -> None:
    store.by_hand(ASKED, NOW_MS - 1, "pending", "refused")
    [item] = found(record)
    assert (item.kind, item.severity) == ("prembly", Severity.URGENT)
    assert "has refused your API key since 2023-11-14 22:13:19 UTC" in item.text
    store.by_hand(ASKED, NOW_MS, "pending", "unsettled")
    assert found(record) == []


def test_that_prembly_cannot_be_reached_is_told_when_it_lasts(
    store: Store, record: Database
) -> None:
    for number in range(5):
        store.by_hand(ASKED, NOW_MS - number - 2, "confirm", "unavailable")
    assert found(record) == [], "a short outage"
    store.by_hand("DELETE FROM inquiry WHERE id > 1")
    store.by_hand("UPDATE inquiry SET at_ms = ?", NOW_MS - UNREACHABLE_MS)
    store.by_hand(ASKED, NOW_MS - 2, "confirm", "unavailable")
    assert found(record) == []
    store.by_hand(ASKED, NOW_MS - 1, "confirm", "unavailable")
    [item] = found(record)
    assert (item.kind, item.severity, item.count) == ("prembly", Severity.WARNING, 3)
    store.by_hand(ASKED, NOW_MS, "confirm", "confirmed")
    assert found(record) == []


def test_what_prembly_never_answered_is_told_until_it_is_dismissed(
    store: Store, record: Database
) -> None:
    store.by_hand(AWAITED, "settled", None, NOW_MS)
    store.by_hand(AWAITED, "waiting", NOW_MS, None)
    store.by_hand(AWAITED, "given_up", None, NOW_MS - 30 * DAY_MS)  # it could not be asked
    store.by_hand("UPDATE awaited SET ask_count = 9, answered_at_ms = 1")
    store.by_hand(AWAITED, "given_up", None, NOW_MS)
    assert found(record) == []
    store.by_hand("UPDATE awaited SET ask_count = 9")
    [item] = found(record)
    assert (item.kind, item.count) == ("given_up", 1)
    dismiss(store, 1)
    assert found(record) == []
