"""What several hosts need an operator for."""

from premblyd.features.postgresql import shown
from premblyd.features.postgresql.membership import SharedHosts
from premblyd.record.troubles import LATE_MS
from premblyd.store.engine import Database
from tests.support.hosts import identity
from tests.support.queue import add_many
from tests.support.store import NOW_MS, Store
from tests.support.troubles import found, kinds
from tests.support.troubles import record as record  # noqa: PLC0414 (a fixture)


def host(store: Store, name: str, *actions: str) -> SharedHosts:
    hosts = SharedHosts(store.writer, identity(name), actions)
    store.wait(hosts.join(NOW_MS))
    return hosts


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
