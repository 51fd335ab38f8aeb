"""`order: reference`: those of one reference run one at a time, in the order of receipt."""

from typing import Any

import pytest

from premblyd.features.turns import order
from premblyd.features.turns.settings import Then
from premblyd.ground.databases import DatabaseAddress
from premblyd.queue.inbox import Inbox, NewDelivery
from premblyd.queue.jobs import Job
from premblyd.record.operating import Operator
from premblyd.run import dispatcher
from tests.support.dispatching import Dispatching
from tests.support.jobs import action
from tests.support.queue import FAILED, SUCCEEDED, claim, finish, ids
from tests.support.store import NOW_MS, Store, new_event

DELIVERIES = "FROM delivery LEFT JOIN ordered ON ordered.delivery_id = delivery.id"
LINE = f"SELECT delivery.id, state, waits_for_id {DELIVERIES} ORDER BY delivery.id"


def add(store: Store, *references: str | None, then: Then = "continue", **changes: Any) -> None:
    """Store an event of each reference, with a delivery of the action crm."""
    for reference in references:
        body = b"%d" % len(store.rows("SELECT id FROM event"))
        store.add("crm", then=then, body=body, reference=reference, **changes)


def run(store: Store, now_ms: int = NOW_MS) -> list[int]:
    """Have all that is due succeed; return it in that order."""
    done = []
    while jobs := claim(store, now_ms, crm=9, other=9).jobs:
        for job in jobs:
            assert finish(store, job, SUCCEEDED, None, now_ms)
            done.append(job.delivery_id)
    return done


def only(store: Store, now_ms: int = NOW_MS) -> Job:
    [job] = claim(store, now_ms, crm=9).jobs
    return job


def replay(store: Store, *numbers: int, then: Then | None = "continue") -> int:
    attempts = dict.fromkeys(numbers, 3)
    terms = dict.fromkeys(numbers, then)
    changes = Operator(actor="ada").replay(attempts, NOW_MS, terms)
    return sum(store.call(change) for change in changes)


def test_those_of_one_reference_run_one_at_a_time_and_others_beside_them(store: Store) -> None:
    add(store, "a", "a", "b", "a", None, None, "")
    waiting = f"SELECT delivery.id, waits_for_id {DELIVERIES} WHERE due_at_ms IS NULL ORDER BY 1"
    assert store.rows(waiting) == [(2, 1), (4, 2)]
    first = claim(store, crm=9)
    assert ids(first) == [1, 3, 5, 6, 7]
    assert (claim(store, crm=9).jobs, first.next_due_ms) == ([], NOW_MS + 60_000)
    assert finish(store, first.jobs[0], SUCCEEDED, None, NOW_MS + 7)
    second = f"SELECT due_at_ms, waits_for_id, place {DELIVERIES} WHERE delivery.id = 2"
    assert store.rows(second) == [(NOW_MS + 7, None, 2)]
    assert only(store, NOW_MS + 7).delivery_id == 2
    assert store.rows(LINE)[3] == (4, "pending", 2)


def test_nobody_waits_behind_a_dead_one_once_the_action_is_not_to_wait(store: Store) -> None:
    add(store, "a", "a", then="wait")
    dead = only(store)
    assert finish(store, dead, FAILED, None, NOW_MS)
    assert claim(store, crm=9).jobs == []
    assert not store.call(
        lambda transaction: order.let_go(transaction, {"other"}, NOW_MS), alone=True
    )
    assert store.rows(LINE) == [(1, "dead", None), (2, "pending", 1)]
    # The clock was set back since.
    now_ms = NOW_MS - 60_000
    assert store.call(lambda each: order.let_go(each, {"crm"}, now_ms), alone=True)
    assert store.rows("SELECT due_at_ms FROM delivery WHERE id = 2") == [(now_ms,)]
    assert run(store) == [2]


def test_nobody_waits_for_ever_behind_one_that_nobody_saw_leave(store: Store) -> None:
    add(store, "a", "a")
    store.by_hand(
        "UPDATE delivery SET state = 'succeeded', due_at_ms = NULL, finished_at_ms = 1 WHERE id = 1"
    )
    assert claim(store, crm=9).jobs == []
    assert store.call(lambda transaction: order.let_go(transaction, set(), NOW_MS), alone=True)
    assert run(store) == [2]


def test_what_comes_in_one_transaction_stands_in_line_too(store: Store) -> None:
    deliveries = [NewDelivery("crm", 3, "continue"), NewDelivery("other", 3)]
    store.wait_all(
        store.inbox.add(new_event(b"%d" % number, reference=reference), deliveries)
        for number, reference in enumerate(["a", "b", "a", "a", "b"])
    )
    waiting = f"""SELECT delivery.event_id, before.event_id {DELIVERIES}
        LEFT JOIN delivery AS before ON before.id = waits_for_id
        WHERE delivery.action = ? ORDER BY 1"""
    assert store.rows(waiting, "crm") == [(1, None), (2, None), (3, 1), (4, 3), (5, 2)]
    assert store.rows(waiting, "other") == [(number, None) for number in range(1, 6)]


def test_each_action_has_its_own_line_and_a_uuid_is_one_in_every_spelling(store: Store) -> None:
    uuid = "0b7ed5ac-13a4-4b0a-9d2e-0123456789ab"
    add(store, uuid, uuid.replace("-", "_"), uuid.upper())
    store.add("other", then="continue", body=b"9", reference=uuid)
    assert [row[2] for row in store.rows(LINE)] == [None, 1, 2, None]


def test_one_that_died_when_its_action_let_others_wait_lets_them_go_on_now(store: Store) -> None:
    add(store, "a", "a", then="wait")
    finish(store, only(store), FAILED)
    assert replay(store, 1, then="continue") == 1
    finish(store, only(store), FAILED)
    assert run(store) == [2]


def test_replays_join_the_end_in_the_order_in_which_they_are_named(store: Store) -> None:
    add(store, "a", "a", "a")
    assert run(store) == [1, 2, 3]
    add(store, "a")
    assert replay(store, 1, 3, 2) == 3
    assert run(store) == [4, 1, 3, 2]
    assert replay(store, 2) == 1
    places = "SELECT waits_for_id, place FROM ordered WHERE delivery_id = 2"
    assert store.rows(places) == [(None, 1)]
    log = "SELECT delivery_id, event_id, action, state, place, waits_for_id FROM order_log"
    assert store.rows(log) == [(2, 2, "crm", "pending", 1, None)]
    assert run(store) == [2]
    add(store, "a")
    assert replay(store, 2, then=None) == 1
    assert store.rows(places) == [], "without `order` it waits for nobody"


def test_a_delivery_that_is_made_later_joins_the_end(store: Store) -> None:
    add(store, "a", "a")
    store.add(body=b"without", reference="a")
    store.add(body=b"nothing", reference=None)
    [change] = Operator(actor="ada").add([3, 4], "crm", 3, NOW_MS, "continue")
    assert store.call(change) == 2
    assert store.rows(LINE)[2:] == [(3, "pending", 2), (4, "pending", None)]
    assert run(store) == [1, 4, 2, 3]


def test_one_that_waits_is_not_hastened(store: Store) -> None:
    add(store, "a", "a")
    [change] = Operator(actor="ada").make_due_now([2], NOW_MS)
    assert store.call(change) == 0
    assert run(store) == [1, 2]


def test_when_the_action_has_left_the_configuration_the_whole_line_ends(store: Store) -> None:
    add(store, *["a"] * 30)
    claim(store, other=9)
    assert store.rows("SELECT DISTINCT state FROM delivery") == [("dead",)]
    add(store, "b", "b", then="wait")
    claim(store, other=9)
    assert store.rows(LINE)[30:] == [(31, "dead", None), (32, "pending", 31)]


@pytest.mark.usefixtures("lines")
async def test_the_next_of_a_line_begins_as_soon_as_the_one_before_has_ended(
    place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when the dispatcher looks the next time: so long a line may hold up what waits."""
    monkeypatch.setattr(dispatcher, "POLL_S", 3600.0)
    async with Dispatching(place, action("crm", concurrency=4, order="reference")) as at:
        held = at.shell.hold("crm")
        for body in (b"1", b"2"):
            event = new_event(body, received_at_ms=at.clock.now_ms())
            await Inbox(at.writer).add(event, [NewDelivery("crm", 3, "continue")])
        at.dispatcher.wake()
        await at.until(lambda: at.shell.running["crm"])
        looks = len(at.queue.claims)
        at.dispatcher.wake()
        await at.until(lambda: len(at.queue.claims) > looks)
        await at.queue.let_go(NOW_MS)  # the claim has come back: nothing may run
        held.set()
        await at.until_states(succeeded=2)
