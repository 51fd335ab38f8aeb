"""The rows of the daemons on a database, and what becomes of what a dead one ran."""

import pytest

from premblyd.features.postgresql import shown
from premblyd.features.postgresql.membership import SharedHosts, Sighting
from premblyd.queue.due import NO_ACTION
from premblyd.queue.queue import Queue
from premblyd.queue.register import Hosts
from tests.support.hosts import identity
from tests.support.queue import SUCCEEDED, claim, finish
from tests.support.store import NOW_MS, Store

YEAR_LATER_MS = NOW_MS + 365 * 86_400_000
HOSTS = "SELECT name, ended, ended_at_ms FROM host ORDER BY id"
DELIVERIES = "SELECT state, due_at_ms, last_error FROM delivery ORDER BY id"


@pytest.fixture(name="host")
def join(store: Store) -> SharedHosts:
    """The host `host`, whose worker is that of `store.queue`."""
    return other(store, "host")


def sighting(store: Store, name: str) -> Sighting:
    sql = "SELECT id, worker, name, beat_count FROM host WHERE name = ?"
    ((id_, worker, name, count),) = store.rows(sql, name)
    return Sighting(id=id_, worker=worker, name=name, beat_count=count)


def other(store: Store, name: str = "other") -> SharedHosts:
    hosts = SharedHosts(store.writer, identity(name))
    store.wait(hosts.join(NOW_MS))
    return hosts


def test_what_a_lost_host_ran_is_due_and_its_late_report_changes_nothing(
    store: Store, host: SharedHosts
) -> None:
    """Only one observer takes it over."""
    observer = other(store)
    store.add("crm")
    (job,) = claim(store, crm=1).jobs
    lost = [sighting(store, "host")]
    taken = store.wait(observer.take_over(lost, NOW_MS + 5))
    assert store.wait(observer.take_over(lost, NOW_MS + 6)).hosts == []
    assert ([lost.name for lost in taken.hosts], taken.delivery_ids) == (["host"], [1])
    assert store.rows(HOSTS) == [("host", "lost", NOW_MS + 5), ("other", None, None)]
    error = "the daemon stopped while the hook ran"
    assert store.rows(DELIVERIES) == [("pending", NOW_MS + 5, error)]
    assert not finish(store, job, SUCCEEDED)
    assert store.rows(DELIVERIES) == [("pending", NOW_MS + 5, error)]
    assert store.wait(host.revive(NOW_MS)) == set()


def test_a_host_that_was_seen_meanwhile_is_not_lost(store: Store, host: SharedHosts) -> None:
    observer = other(store)
    store.add("crm")
    (job,) = claim(store, crm=1).jobs
    seen = sighting(store, "host")
    store.wait(host.revive(NOW_MS))  # counts a beat
    taken = store.wait(observer.take_over([seen], NOW_MS))
    assert (taken.hosts, taken.delivery_ids) == ([], [])
    assert store.wait(host.revive(NOW_MS)) == {job.claim_token}


def test_a_claim_stands_until_another_host_takes_it_over(store: Store, host: SharedHosts) -> None:
    observer = other(store)
    store.add("crm")
    (job,) = claim(store, crm=1).jobs
    seen = sighting(store, "host")
    assert store.wait(store.queue.prove(job))
    assert store.wait(observer.take_over([seen], NOW_MS)).hosts == [], "a proof is a sign of life"
    assert store.wait(observer.take_over([sighting(store, "host")], NOW_MS)).delivery_ids == [1]
    assert not store.wait(store.queue.prove(job))
    store.wait(host.revive(NOW_MS))
    assert not store.wait(store.queue.prove(job)), "it lives, but has lost this one"
    (again,) = claim(store, crm=1).jobs
    assert store.wait(store.queue.prove(again))
    assert not store.wait(store.queue.prove(job)), "the worker has it, by another claim"


def test_while_a_host_counts_as_lost_its_claim_does_not_stand_and_is_found(
    store: Store, host: SharedHosts
) -> None:
    """Also what it claimed while it was found lost."""
    observer = other(store)
    store.add("crm")
    (job,) = claim(store, crm=1).jobs
    store.by_hand("UPDATE host SET ended = 'lost', ended_at_ms = 1 WHERE name = 'host'")
    assert not store.wait(store.queue.prove(job))
    assert store.wait(observer.take_over([], NOW_MS)).delivery_ids == [1]


def test_a_start_takes_over_from_who_has_ended_and_touches_no_others(
    store: Store, host: SharedHosts
) -> None:
    neighbour = Queue(store.writer, "neighbour:1:boot")
    other(store, "neighbour")
    store.add("crm", "mail")
    claim(store, crm=1, mail=0)
    store.queue = neighbour
    claim(store, crm=0, mail=1)
    store.by_hand("UPDATE host SET ended = 'lost', ended_at_ms = 1 WHERE name = 'host'")
    assert store.wait(SharedHosts(store.writer, identity("next")).join(NOW_MS)) == [1]
    assert [state for state, *_ in store.rows(DELIVERIES)] == ["pending", "running"]
    assert [ended for _, ended, _ in store.rows(HOSTS)] == ["lost", None, None]


def test_a_stop_makes_due_what_could_not_be_reported(store: Store, host: SharedHosts) -> None:
    store.add("crm")
    claim(store, crm=1)
    assert store.wait(host.leave(NOW_MS + 9)) == [1]
    assert store.rows(HOSTS) == [("host", "stopped", NOW_MS + 9)]
    assert [state for state, *_ in store.rows(DELIVERIES)] == ["pending"]
    assert store.wait(host.ended({"host:1:boot", "stranger"})) == {"host:1:boot"}


def test_a_daemon_that_has_its_database_for_itself_knows_that_others_are_dead(
    store: Store, host: SharedHosts
) -> None:
    store.wait(Hosts(store.writer, identity("next")).join(NOW_MS + 1))
    assert store.rows(HOSTS) == [("host", "lost", NOW_MS + 1), ("next", None, None)]
    forgotten = "SELECT name FROM host WHERE forgotten_at_ms IS NOT NULL"
    assert store.rows(forgotten) == [("host",)], "nothing waits for it"


def test_what_only_another_host_knows_is_left_to_it(store: Store, host: SharedHosts) -> None:
    """Configurations change on one host after the other."""
    observer = other(store)
    store.wait(observer.know(["crm", "new"]))
    store.add("new")
    assert claim(store, NOW_MS + 3_600_000, crm=1).jobs == []
    assert store.rows("SELECT state FROM delivery") == [("pending",)]
    store.wait(observer.know(["crm"]))
    assert claim(store, NOW_MS + 59_999, crm=1).jobs == []
    assert store.rows("SELECT state FROM delivery") == [("pending",)]
    assert claim(store, NOW_MS + 60_000, crm=1).jobs == []
    assert store.rows("SELECT state, last_error FROM delivery") == [("dead", NO_ACTION)]


def state_after(store: Store, now_ms: int) -> object:
    """Return the state of the one delivery once a host that has crm alone has claimed."""
    claim(store, now_ms, crm=1)
    [(state,)] = store.rows("SELECT state FROM delivery")
    return state


def forget(store: Store, name: str) -> bool:
    return store.call(shown.forget("ada", name, YEAR_LATER_MS), alone=True)


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_only_a_host_has_that_is_away_waits_until_somebody_ends_that_host(
    store: Store, host: SharedHosts, is_killed: bool
) -> None:
    away = other(store)
    store.wait(away.know(["new"]))
    store.add("new")
    if is_killed:
        store.wait(host.take_over([sighting(store, "other")], NOW_MS))
    else:
        store.wait(away.leave(NOW_MS))
    assert state_after(store, YEAR_LATER_MS) == "pending"
    assert forget(store, "other")
    assert state_after(store, YEAR_LATER_MS) == "dead"
    assert store.rows("SELECT last_error FROM delivery") == [(NO_ACTION,)]
    done = "SELECT actor, action, note FROM operator_action"
    assert store.rows(done) == [("ada", "forget", "host other")]
    assert not forget(store, "other"), "it is ended already"
    assert not forget(store, "nobody")


def test_a_host_that_works_can_not_be_ended(store: Store, host: SharedHosts) -> None:
    store.by_hand(f"UPDATE host SET seen_at_ms = {YEAR_LATER_MS - 1}")
    assert not forget(store, "host")
    store.by_hand(f"UPDATE host SET seen_at_ms = {YEAR_LATER_MS - 60_001}")
    assert forget(store, "host"), "it died, and nobody was there to see it"
    assert store.rows(HOSTS) == [("host", "lost", YEAR_LATER_MS)]
    store.wait(host.revive(YEAR_LATER_MS))
    assert store.rows("SELECT ended, forgotten_at_ms FROM host") == [(None, None)], "it was asleep"
    store.wait(SharedHosts(store.writer, identity("slow"), lost_after_ms=3_600_000).join(NOW_MS))
    store.by_hand(f"UPDATE host SET seen_at_ms = {YEAR_LATER_MS - 3_000_000}")
    assert not forget(store, "slow"), "it beats seldom"


def test_what_a_host_has_from_its_start_counts_and_nothing_that_it_had_before(
    store: Store, host: SharedHosts
) -> None:
    """Else the others end what has waited for it, before it could say what it has."""
    before = other(store)
    store.wait(before.know(["old"]))
    store.add("old")
    store.wait(before.leave(NOW_MS))
    now = SharedHosts(store.writer, identity("other", worker="other:2:boot"), ["crm", "new"])
    store.wait(now.join(NOW_MS))
    store.add("new", body=b"2")
    claim(store, YEAR_LATER_MS, crm=1)
    assert store.rows("SELECT state FROM delivery ORDER BY id") == [("dead",), ("pending",)]


def test_what_a_predecessor_of_the_same_host_knew_does_not_count(
    store: Store, host: SharedHosts
) -> None:
    predecessor = SharedHosts(store.writer, identity("host", worker="host:0:boot"))
    store.wait(predecessor.join(NOW_MS))
    store.wait(predecessor.know(["old"]))
    store.wait(predecessor.leave(NOW_MS))
    store.add("old")
    assert state_after(store, NOW_MS) == "dead"


def test_a_daemon_comes_back_though_a_standby_had_not_its_row(
    store: Store, host: SharedHosts
) -> None:
    store.by_hand("DELETE FROM host")
    assert store.wait(host.revive(NOW_MS)) == set()
    assert store.wait(host.ended({"host:1:boot"})) == set()
    assert len(store.rows(HOSTS)) == 1
