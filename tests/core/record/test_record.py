"""What people ask the record, and what they change in it."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from premblyd.ground.errors import NotFoundError, StoreUnavailableError
from premblyd.queue.jobs import Claimable, Result, Room
from premblyd.record import events, lists, operating, replays
from premblyd.record.events import AttemptRow, WholeEvent
from premblyd.record.filters import HANDLED, DeliveryFilter, EventFilter, OperatorFilter
from premblyd.record.lists import DeliveryRow, RejectionRow
from premblyd.record.operating import Change, Operator
from premblyd.store.columns import columns
from premblyd.store.connections import connect_operator, connect_read_only
from premblyd.store.engine import Database
from premblyd.store.states import CANCELLABLE, AttemptOutcome, State
from premblyd.store.tables import Attempt, Delivery, Event, Rejection
from tests.support.database import by_hand
from tests.support.jobs import ending
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store

RECORDS = "SELECT at_ms, actor, action, event_id, delivery_id, note FROM operator_action"
STATES = "SELECT id, state, due_at_ms, attempts_left, finished_at_ms FROM delivery ORDER BY id"


ADA = Operator(actor="ada")

NO_TABLE = r"no such table: operator_action|UndefinedTable"  # by engine


@pytest.fixture
def record(store: Store, database: Database) -> Database:
    """Three webhooks: codes 00, 02 and none; each with two deliveries. The daemon runs."""
    store.add("crm", "page", body=b"1")
    about: dict[str, Any] = {"outcome": "pending", "reference": "ref-2", "user_ref": "user-2"}
    about |= {"type": "workflow.process.completed", "response_code": "02"}
    store.add("crm", "page", body=b"2", received_at_ms=NOW_MS + 10, **about)
    store.add("crm", "page", body=b"3", received_at_ms=NOW_MS + 20, response_code=None)
    return database


@pytest.fixture
def writing(store: Store, record: Database) -> Iterator[Database]:
    with closing(connect_operator(store.place)) as writing:
        yield writing


def perform_all(writing: Database, changes: Iterator[Change[int]]) -> list[int]:
    return [writing.transact(change) for change in changes]


def run(store: Store, count: int, outcome: AttemptOutcome) -> None:
    """Run the hooks of the next `count` deliveries of crm; none is retried."""
    actions = {
        name: Claimable(slots=slots, lease_ms=1000, digest="d1")
        for name, slots in (("crm", count), ("page", 0))
    }
    for job in store.wait(store.queue.claim(actions, Room(limit=9), NOW_MS + 50)).jobs:
        result = Result(outcome=outcome, exit_code=3, error="exit 3", output="hush-output")
        state = State.SUCCEEDED if outcome is AttemptOutcome.SUCCEEDED else State.DEAD
        store.wait(store.queue.finish(job, result, ending(job, state, NOW_MS + 60)))


def test_events_are_filtered_and_the_newest_come_first(record: Database) -> None:
    for chosen, found in (
        (EventFilter(), [3, 2, 1]),
        (EventFilter(code="missing"), [3]),
        (EventFilter(code="0"), []),
        (EventFilter(type="*.s??sion"), [3, 1]),
        (EventFilter(type="workflow"), []),
        (EventFilter(user_ref="user-1"), [3, 1]),
        (EventFilter(since_ms=NOW_MS + 10, until_ms=NOW_MS + 20), [2]),
        (EventFilter(reference="ref-1", code="missing"), [3]),
        (EventFilter(reference="' OR 1=1 --"), []),
    ):
        listed = lists.rows(record, chosen)
        assert [event.id for event in listed] == found, chosen
        assert lists.rows(record, chosen, limit=1) == listed[:1]


def test_a_list_shows_no_payload_and_no_secret(store: Store, record: Database) -> None:
    run(store, 1, AttemptOutcome.FAILED)
    event = asdict(lists.rows(record, EventFilter())[0])
    whole = asdict(events.find_event(record, "3"))
    own = {name: event.pop(name) for name in event.keys() - whole.keys()}
    assert (own["handled"], own["deliveries"]) == ("pending", 2)
    assert whole.keys() - event.keys() == {"body", "headers", "session_id", "token"}
    assert event == {name: whole[name] for name in event}
    assert "hush" not in repr((event, lists.rows(record, DeliveryFilter())))


def test_rows_have_what_people_see_of_their_tables() -> None:
    # What serves the daemon alone.
    own = {"reference_key", "claim_token", "held_by"}
    for table, row in (
        (Event, WholeEvent),
        (Delivery, DeliveryRow),
        (Attempt, AttemptRow),
        (Rejection, RejectionRow),
    ):
        names = {column.column_name for column in columns(table)}
        assert names - {field.name for field in fields(row)} == names & own


def test_an_event_is_found_by_its_number_and_by_its_key(store: Store, record: Database) -> None:
    found = events.find_event(record, "2")
    assert (found.id, found.body, found.token, found.face_match) == (2, b"2", "hush-token", True)
    assert not [hush for hush in ("hush", "b'2'") if hush in repr(found)]
    assert events.find_event(record, found.key) == found
    assert events.find_event_id(record, found.key) == 2
    digits = "12345678901234567890123456789012"  # a key may look like a number
    store.by_hand("UPDATE event SET key = ? WHERE id = 1", digits)
    assert events.find_event(record, digits).id == 1


@for_each("name", ["4", "-1", "", "2 ", "9" * 40, "²", "1e0"])
def test_what_names_no_event_finds_none(record: Database, name: str) -> None:
    for find in (events.find_event, events.find_event_id):
        with pytest.raises(NotFoundError, match="There is no event"):
            find(record, name)


def test_an_event_stands_as_the_delivery_does_that_stands_worst(
    store: Store, record: Database
) -> None:
    def handled() -> list[str]:
        return [event.handled for event in lists.rows(record, EventFilter(find="3"))]

    stand = "UPDATE delivery SET state = ?, due_at_ms = NULL, finished_at_ms = 1 WHERE id = ?"
    for number, state, worst in (
        (5, "succeeded", "pending"),
        (6, "skipped", "succeeded"),
        (5, "cancelled", "cancelled"),
        (6, "dead", "dead"),
    ):
        store.by_hand(stand, state, number)
        assert handled() == [worst]
        for word in HANDLED:
            assert bool(lists.rows(record, EventFilter(find="3", handled=word))) == (word == worst)
    store.by_hand("DELETE FROM delivery")
    assert handled() == ["none"]


def test_deliveries_are_filtered_and_the_newest_or_the_oldest_come_first(
    store: Store, record: Database
) -> None:
    run(store, 1, AttemptOutcome.SUCCEEDED)
    for chosen, found in (
        (DeliveryFilter(), [6, 5, 4, 3, 2, 1]),
        (DeliveryFilter(state="succeeded"), [1]),
        (DeliveryFilter(state="pending", action="crm"), [5, 3]),
        (DeliveryFilter(delivery_id=4), [4]),
        (DeliveryFilter(event_id=2), [4, 3]),
        (DeliveryFilter(type="sdk.session", action="page"), [6, 2]),
        (DeliveryFilter(since_ms=NOW_MS + 10, until_ms=NOW_MS + 20), [4, 3]),
        (DeliveryFilter(error="nothing like this"), []),
        (DeliveryFilter(action="gone"), []),
    ):
        listed = lists.rows(record, chosen)
        assert [row.id for row in listed] == found, chosen
        assert lists.rows(record, chosen, limit=1) == listed[:1]
        oldest_first = [row.id for row in replays.find_deliveries(record, chosen)]
        assert oldest_first == found[::-1], chosen
    [row] = lists.rows(record, DeliveryFilter(event_id=2, action="crm"))
    about = (row.type, row.response_code, row.outcome, row.reference)
    assert about == ("workflow.process.completed", "02", "pending", "ref-2")


def test_attempts_come_in_the_order_they_ran(
    store: Store, record: Database, writing: Database
) -> None:
    run(store, 2, AttemptOutcome.FAILED)
    assert perform_all(writing, ADA.replay({1: 1}, NOW_MS)) == [1]
    run(store, 1, AttemptOutcome.TIMED_OUT)
    found = events.attempts_of(record, [3, 1, 2])
    came = [(row.delivery_id, row.number, row.outcome) for row in found]
    assert came == [(1, 1, "failed"), (1, 2, "timed_out"), (3, 1, "failed")]
    assert (found[0].exit_code, found[0].output) == (3, "hush-output")
    assert events.attempts_of(record, [2]) == events.attempts_of(record, []) == []


def test_replay_queues_what_is_finished_and_nothing_else(
    store: Store, writing: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating, "BATCH", 2)
    run(store, 1, AttemptOutcome.FAILED)
    run(store, 1, AttemptOutcome.SUCCEEDED)
    assert writing.transact(ADA.cancel(6, NOW_MS + 70))
    everything = dict.fromkeys(range(1, 8), 9)
    assert perform_all(writing, ADA.replay(everything, NOW_MS + 80)) == [1, 1, 1, 0]
    queued = ("pending", NOW_MS + 80, 9, None)
    assert store.rows(STATES) == [
        (1, *queued),
        (2, "pending", NOW_MS, 3, None),
        (3, *queued),
        (4, "pending", NOW_MS + 10, 3, None),
        (5, "pending", NOW_MS + 20, 3, None),
        (6, *queued),
    ]
    assert store.rows(f"{RECORDS} ORDER BY id") == [
        (NOW_MS + 70, "ada", "cancel", None, 6, None),
        *((NOW_MS + 80, "ada", "replay", None, number, None) for number in (1, 3, 6)),
    ]
    assert store.rows("SELECT attempt_count FROM delivery WHERE id = 1") == [(1,)]  # still fences


def test_each_batch_of_a_replay_is_committed_before_the_next(
    store: Store, writing: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating, "BATCH", 1)
    run(store, 2, AttemptOutcome.FAILED)
    replay = ADA.replay({1: 1, 3: 1}, NOW_MS)
    for done, operation in enumerate(replay, start=1):
        assert writing.transact(operation) == 1
        assert store.rows("SELECT count(*) FROM operator_action") == [(done,)]
        assert store.add(body=b"the daemon commits in between %d" % done).is_new


@pytest.mark.parametrize("state", [state for state in State if state not in CANCELLABLE])
def test_only_a_pending_or_dead_delivery_can_be_cancelled(
    store: Store, writing: Database, state: State
) -> None:
    over = ", due_at_ms = NULL, finished_at_ms = 1" if state is not State.RUNNING else ""
    by_hand(store.place, f"UPDATE delivery SET state = ?{over}", state, unchecked=True)
    before = store.rows(STATES)
    assert not writing.transact(ADA.cancel(1, NOW_MS))
    assert not writing.transact(ADA.cancel(99, NOW_MS))
    assert (store.rows(STATES), store.rows(RECORDS)) == (before, [])


def test_of_many_only_those_are_cancelled_that_are_dead_still(
    store: Store, writing: Database
) -> None:
    over = "SET state = '{}', due_at_ms = NULL, finished_at_ms = 1 WHERE id = {}"
    for number, state in ((1, "dead"), (2, "succeeded"), (3, "dead")):
        store.by_hand(f"UPDATE delivery {over.format(state, number)}")
    before = store.rows(STATES)
    assert perform_all(writing, ADA.cancel_dead(range(1, 7), NOW_MS + 5)) == [2]
    after = store.rows(STATES)
    for old, new in zip(before, after, strict=True):
        cancelled = (old[0], "cancelled", None, old[3], NOW_MS + 5)
        assert new == (cancelled if old[0] in (1, 3) else old)


def test_a_replay_of_many_is_one_line_with_its_deliveries_behind(
    store: Store, writing: Database
) -> None:
    run(store, 2, AttemptOutcome.FAILED)
    many = writing.transact(ADA.many("2 deliveries", NOW_MS))
    assert perform_all(writing, many.replay({1: 1, 3: 1}, NOW_MS + 5)) == [2]
    assert writing.transact(ADA.reveal(2, NOW_MS + 9)).event_id == 2
    assert store.rows(f"{RECORDS} WHERE at_ms = ?", NOW_MS + 9) == [
        (NOW_MS + 9, "ada", "reveal", 2, None, None)
    ]
    reveal, replay = lists.rows(writing, OperatorFilter())
    assert (reveal.action, reveal.parts, reveal.part_of_id) == ("reveal", 0, None)
    assert (replay.note, replay.parts, replay.delivery_id) == ("2 deliveries", 2, None)
    parts = lists.rows(writing, OperatorFilter(part_of_id=replay.id))
    assert [(row.actor, row.delivery_id) for row in parts] == [("ada", 3), ("ada", 1)]
    for chosen, found in (
        ({"action": "reveal"}, [reveal]),
        ({"actor": "AD"}, [reveal, replay]),
        ({"since_ms": NOW_MS + 9}, [reveal]),
    ):
        assert lists.rows(writing, OperatorFilter(**chosen)) == found


def test_a_body_that_is_an_empty_object_is_revealed_as_that(
    store: Store, writing: Database
) -> None:
    recorded = writing.transact(ADA.reveal(store.add(body=b"{}").event_id, NOW_MS))
    assert events.revealed(writing, recorded).as_json()["body"] == {}


def test_a_record_that_cannot_be_kept_undoes_the_change(store: Store, writing: Database) -> None:
    store.by_hand("DROP TABLE operator_action")
    run(store, 1, AttemptOutcome.FAILED)
    before = store.rows(STATES)
    with pytest.raises(StoreUnavailableError, match=NO_TABLE):
        writing.transact(ADA.cancel(2, NOW_MS))
    with pytest.raises(StoreUnavailableError, match=NO_TABLE):
        perform_all(writing, ADA.replay({1: 1}, NOW_MS))
    assert store.rows(STATES) == before


def test_a_database_that_is_damaged_is_an_error_in_words(path: Path) -> None:
    with closing(connect_read_only(path)) as record:
        damaged = bytearray(path.read_bytes())
        damaged[4096:] = bytes(len(damaged) - 4096)
        path.write_bytes(damaged)
        with pytest.raises(StoreUnavailableError, match=r"could not be read: .*malformed"):
            lists.rows(record, EventFilter())


def test_a_delivery_whose_event_somebody_deleted_is_still_listed(
    store: Store, database: Database
) -> None:
    store.add("crm")
    store.by_hand("DELETE FROM event")
    [delivery] = lists.rows(database, DeliveryFilter())
    assert (delivery.id, delivery.state, delivery.outcome) == (1, "pending", None)
