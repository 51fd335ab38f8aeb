"""What comes of a person who was erased, or again of a webhook whose record was removed."""

from typing import Any

from premblyd.model.columns import PLAIN, Kept, columns
from premblyd.model.tables import Event
from premblyd.prembly.payload import Outcome
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.queue.once import once_key
from premblyd.verifications.digests import Digests
from tests.support.erasing import forget, remove_record
from tests.support.store import NOW_MS, Store, new_event

UUID = "0b6ba2e4-6d83-4c43-ae3c-7a3ce2b1a001"
SPELT = UUID.replace("-", "_").upper()
RUNS = NewDelivery("told", 3, "wait", True)
PENDING: dict[str, Any] = {"outcome": Outcome.PENDING, "verification_status": "PENDING"}
DELIVERIES = "SELECT action, state, order_key, confirmed_key FROM delivery ORDER BY id"


def arrive(store: Store, *deliveries: NewDelivery, **changes: Any) -> Added:
    """Store a webhook, of a session of its own."""
    changes.setdefault("session_id", None)
    return store.wait(store.inbox.add(new_event(**changes), deliveries, first_ask_ms=1))


def digests(store: Store) -> Digests:
    return store.wait(store.writer.call(Digests.of))


def event(store: Store, event_id: int) -> dict[str, Any]:
    names = [column.column_name for column in columns(Event)]
    [row] = store.rows(f"SELECT {', '.join(names)} FROM event WHERE id = ?", event_id)
    return dict(zip(names, row, strict=True))


def test_a_webhook_of_an_erased_reference_is_stored_erased(store: Store) -> None:
    erasure_id = forget(store, UUID)
    added = arrive(store, NewDelivery("crm", 3), reference=SPELT, body=b'{"hush": 1}', **PENDING)
    assert (added.is_new, added.is_erased) == (True, True)
    stored = event(store, added.event_id)
    for column in columns(Event):
        if column.holds is not PLAIN and column.kept in (Kept.BODY, Kept.IDENTITY):
            assert stored[column.column_name] in (None, "", "[]", b""), column.name
    assert (stored["lacks"], stored["erasure_id"]) == ("erased", erasure_id)
    assert stored["erased_name"] == digests(store).of_reference(UUID)
    assert (stored["key"], stored["response_code"]) == (added.key, "00")
    assert (stored["outcome"], stored["received_at_ms"]) == ("pending", NOW_MS)
    assert store.rows(DELIVERIES) == []
    assert store.rows("SELECT id FROM awaited") == []
    counts = "SELECT sum(events), sum(duplicates), sum(unmatched) FROM event_hour"
    assert store.rows(counts) == [(1, 0, 0)]


def test_a_webhook_of_an_erased_session_is_stored_erased(store: Store) -> None:
    forget(store, sessions=["hush-session"])
    added = arrive(store, session_id="hush-session", reference="ref-new")
    assert added.is_erased
    assert event(store, added.event_id)["session_id"] is None


def test_a_webhook_of_somebody_else_is_stored_whole(store: Store) -> None:
    forget(store, UUID, sessions=["hush-session"])
    added = arrive(store, NewDelivery("crm", 3), reference="ref-other", session_id="another")
    assert not added.is_erased
    stored = event(store, added.event_id)
    assert (stored["reference"], stored["lacks"]) == ("ref-other", None)
    assert [row[0] for row in store.rows(DELIVERIES)] == ["crm"]


def test_webhooks_that_come_at_once_are_told_apart(store: Store) -> None:
    forget(store, "ref-1")
    added = store.wait_all(
        store.inbox.add(
            new_event(b"%d" % number, reference=f"ref-{number % 2}", session_id=None),
            [NewDelivery("crm", 3)],
        )
        for number in range(6)
    )
    assert [each.is_erased for each in added if isinstance(each, Added)] == [False, True] * 3
    rows = store.rows("SELECT reference, lacks FROM event ORDER BY id")
    assert sorted(rows, key=str) == sorted([("ref-0", None), (None, "erased")] * 3, key=str)
    assert store.rows("SELECT count(*) FROM delivery") == [(3,)]


def test_a_duplicate_of_an_erased_event_is_one(store: Store) -> None:
    first = arrive(store, reference="ref-1")
    forget(store, "ref-1")
    again = arrive(store, NewDelivery("crm", 3), reference="ref-1")
    assert (again.event_id, again.is_new, again.is_erased) == (first.event_id, False, True)
    stored = event(store, first.event_id)
    assert (stored["duplicate_count"], stored["body"], stored["reference"]) == (1, b"", None)


def test_what_a_sender_wrote_in_a_plain_column_goes_if_it_may_name_somebody(store: Store) -> None:
    forget(store, "ref-1")
    added = arrive(
        store,
        reference="ref-1",
        status="Ada Obi",
        type="ada.obi",
        response_code="22212345678",
        risk_score=22212345678.0,
        risk_level="high",
    )
    stored = event(store, added.event_id)
    named = ("status", "type", "response_code", "risk_score")
    assert [stored[name] for name in named] == [None] * 4
    assert stored["risk_level"] == "high"


def test_only_an_action_that_says_so_runs_for_what_is_erased(store: Store) -> None:
    """And it stands in no line: the event has no reference."""
    forget(store, "ref-1")
    arrive(store, NewDelivery("crm", 3, "wait"), RUNS, reference="ref-1")
    key = digests(store).of_key(once_key("ref-1", Outcome.VERIFIED, "sdk.session"))
    assert store.rows(DELIVERIES) == [("told", "pending", None, key)]


def test_a_webhook_whose_record_was_removed_is_a_duplicate(store: Store) -> None:
    first = arrive(store, reference="ref-1")
    remove_record(store, first.event_id)
    again = arrive(store, NewDelivery("crm", 3), reference="ref-1")
    assert (again.event_id, again.is_new) == (first.event_id, False)
    assert store.rows("SELECT id FROM event") == []
    assert store.rows(DELIVERIES) == []
    assert store.rows("SELECT sum(events), sum(duplicates) FROM event_hour") == [(1, 1)]
