"""What needs attention of what is kept: it is seen when it is there, and gone when it is mended."""

from contextlib import closing
from types import SimpleNamespace
from typing import Any

from premblyd.features.backup import copying
from premblyd.features.keeping.settings import Retention
from premblyd.ground.times import DAY_MS
from premblyd.record import troubles
from premblyd.record.told import Item, Severity, Situation
from premblyd.store.connections import connect_operator
from premblyd.store.engine import Database
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store

OLD_MS = NOW_MS - 32 * DAY_MS
CLASSES = ["body", "identity", "record"]
BOOKMARK = "INSERT INTO sweep (removed, at_ms, row_id) VALUES (?, ?, ?)"
COUNTED = "removal (day_ms, removed, period_ms, count) VALUES (?, 'body', 1, 1)"
ERASURE = "erasure (at_ms, actor, found_by, events, cancelled) VALUES (?, 'ada', 'event', 1, 0)"


def found(database: Database, now_ms: int = NOW_MS, /, **retention: str) -> list[Item]:
    own: Any = SimpleNamespace(retention=Retention.model_validate(retention))
    situation = Situation(record=database, now_ms=now_ms, settings=own)
    return troubles.items(situation, kinds=["retention", "erasure"])


@for_each("removed", CLASSES)
def test_what_is_a_day_too_late_is_told(store: Store, database: Database, removed: str) -> None:
    """Each class behind its own bookmark."""
    added = store.add(body=removed.encode(), received_at_ms=OLD_MS)
    assert found(database) == []
    assert found(database, NOW_MS - DAY_MS - 1, **{removed: "30d"}) == []
    [item] = found(database, **{removed: "30d"})
    assert (item.kind, item.severity, item.about) == ("retention", Severity.WARNING, removed)
    assert "2 days after it expired" in item.text
    store.by_hand(BOOKMARK, removed, OLD_MS, added.event_id)
    assert found(database, **{removed: "30d"}) == []
    store.by_hand("DELETE FROM sweep")


@for_each("by_ms", [-3 * DAY_MS, 3 * DAY_MS])
def test_a_clock_that_is_apart_from_the_time_that_has_passed_is_urgent_at_once(
    store: Store, database: Database, by_ms: int
) -> None:
    """And retention is not behind by such a clock."""
    store.by_hand("UPDATE record SET trusted_ms = ? WHERE id = 1", NOW_MS + by_ms)
    [item] = troubles.items(Situation(record=database, now_ms=NOW_MS), kinds=["clock"])
    assert (item.severity, item.about) == (Severity.URGENT, "trusted time")
    assert item.command == "sudo -u premblyd premblyd record prune --trust-clock"
    near = Situation(record=database, now_ms=NOW_MS + by_ms * 2 // 3)
    assert not list(troubles.items(near, kinds=["clock"]))
    store.add(received_at_ms=NOW_MS)
    assert found(database, NOW_MS + 400 * DAY_MS, body="30d") == []


def test_what_lacks_it_or_waits_is_not_behind(store: Store, database: Database) -> None:
    """Nor is anybody needed while something of the class goes."""
    removed_parts = store.add(received_at_ms=OLD_MS).event_id
    waits = store.add("crm", body=b"waits", received_at_ms=OLD_MS).event_id
    assert [item.needs_somebody for item in found(database, body="30d")] == [True]
    store.by_hand(f"INSERT INTO {COUNTED}", NOW_MS - NOW_MS % DAY_MS)
    assert found(database, body="30d") == []
    store.by_hand("DELETE FROM removal")
    store.by_hand("UPDATE event SET removed_parts = 'identity' WHERE id = ?", removed_parts)
    store.by_hand(BOOKMARK, "body", OLD_MS, waits)
    assert found(database, body="30d") == []
    rejected = "INSERT INTO rejection (at_ms, endpoint, remote_ip, reason) VALUES (?, '', '', 'x')"
    store.by_hand(rejected, OLD_MS)
    assert [item.about for item in found(database, rejections="30d")] == ["rejections"]
    assert found(database, rejections="32d") == []


def test_an_erasure_that_is_not_done_is_told_until_it_is(store: Store, database: Database) -> None:
    store.by_hand(f"INSERT INTO {ERASURE}", NOW_MS - 60_000)
    store.by_hand("INSERT INTO to_erase (event_id, erasure_id) SELECT 7, id FROM erasure")
    assert found(database, NOW_MS - 1) == [], "it may be under way"
    [item] = found(database)
    assert (item.kind, item.count, item.needs_somebody) == ("erasure", 1, True)
    assert "1 erasure was begun but not finished" in item.text
    store.by_hand("DELETE FROM to_erase")
    assert found(database) == []


def test_a_folder_whose_backup_fails_or_is_old_is_told(store: Store, database: Database) -> None:
    def backups(now_ms: int) -> list[Item]:
        return troubles.items(Situation(record=database, now_ms=now_ms), kinds=["backup"])

    made: dict[str, Any] = {"copied_at_ms": NOW_MS, "error": None}
    with closing(connect_operator(store.place)) as writing:
        copying.note(writing, "/b", **made)
        assert backups(NOW_MS + 3 * DAY_MS - 1) == []
        [item] = backups(NOW_MS + 3 * DAY_MS)
        assert (item.severity, item.about) == (Severity.WARNING, "/b")
        assert item.text == "The newest copy in /b is of 2023-11-14 22:13:20 UTC."
        assert item.command == "sudo premblyd record backup /b"
        copying.note(writing, "/b", error="It is full.")
        copying.note(writing, "/a b", error="It is gone.")
        first, second = backups(NOW_MS)
        failed = "The newest copy in /a b is missing. The last backup failed: It is gone."
        assert (first.text, first.command[-6:]) == (failed, " '/a b'"[-6:])
        assert second.text == f"{item.text} The last backup failed: It is full."
        copying.note(writing, "/b", **made)
        copying.forget_folder(writing, "/a b")
        assert backups(NOW_MS) == []
