"""What needs attention of what is kept: it is seen when it is there, and gone when it is mended."""

from types import SimpleNamespace
from typing import Any

from premblyd.config.backup import Backup
from premblyd.config.retention import Retention
from premblyd.engines.engine import Database
from premblyd.record import keepstatus
from premblyd.record.troubles import table
from premblyd.record.troubles.trouble import Item, Severity, Situation
from premblyd.times import DAY_MS
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store

OLD_MS = NOW_MS - 32 * DAY_MS
CLASSES = ["media", "body", "identity", "record"]
BOOKMARK = "INSERT INTO sweep (removed, at_ms, row_id) VALUES (?, ?, ?)"
CLOSING = "INSERT INTO closing (user_ref, at_ms, noted_at_ms, actor) VALUES ('u', ?, ?, 'ada')"
REMOVAL = (
    "INSERT INTO removal (day_ms, removed, period_ms, count, freed_bytes)"
    " VALUES (?, 'body', 1, 1, 0)"
)
ERASURE = (
    "INSERT INTO erasure (at_ms, actor, found_by, events, cancelled)"
    " VALUES (?, 'ada', 'event', 1, 0)"
)
FROM_CLOSED = {"from": "closed"}


def found(database: Database, now_ms: int = NOW_MS, /, **retention: str) -> list[Item]:
    own: Any = SimpleNamespace(retention=Retention.model_validate(retention), encryption=None)
    situation = Situation(record=database, now_ms=now_ms, settings=own)
    return table.items(situation, kinds=["retention", "erasure"])


def test_what_is_there_a_day_after_its_time_is_told(store: Store, database: Database) -> None:
    store.add(received_at_ms=OLD_MS)
    assert found(database) == []
    assert found(database, NOW_MS - DAY_MS - 1, body="30d") == []
    [item] = found(database, NOW_MS, body="30d")
    assert (item.kind, item.severity, item.about) == ("retention", Severity.WARNING, "body")
    assert "2 days after its time was over" in item.text


@for_each("removed", CLASSES)
def test_each_class_is_looked_at_behind_its_own_bookmark(
    store: Store, database: Database, removed: str
) -> None:
    added = store.add(body=removed.encode(), received_at_ms=OLD_MS)
    assert [item.about for item in found(database, **{removed: "30d"})] == [removed]
    store.by_hand(BOOKMARK, removed, OLD_MS, added.event_id)
    assert found(database, **{removed: "30d"}) == []
    store.by_hand("DELETE FROM sweep")


@for_each("by_ms", [-3 * DAY_MS, 3 * DAY_MS])
def test_a_clock_that_is_apart_from_the_time_that_has_passed_is_urgent_at_once(
    store: Store, database: Database, by_ms: int
) -> None:
    store.by_hand("UPDATE record SET trusted_ms = ? WHERE id = 1", NOW_MS + by_ms)
    situation = Situation(record=database, now_ms=NOW_MS)
    [item] = table.items(situation, kinds=["clock"])
    assert (item.severity, item.about) == (Severity.URGENT, "trusted time")
    assert item.command == "sudo -u premblyd premblyd prune --trust-clock"
    near = Situation(record=database, now_ms=NOW_MS + by_ms * 2 // 3)
    assert not list(table.items(near, kinds=["clock"]))


def test_by_a_clock_that_is_set_on_retention_is_not_behind(
    store: Store, database: Database
) -> None:
    store.add(received_at_ms=NOW_MS)
    store.by_hand("UPDATE record SET trusted_ms = ? WHERE id = 1", NOW_MS)
    assert found(database, NOW_MS + 400 * DAY_MS, body="30d") == []


def test_what_lacks_it_or_waits_is_not_behind(store: Store, database: Database) -> None:
    lacks = store.add(received_at_ms=OLD_MS).event_id
    waits = store.add("crm", body=b"waits", received_at_ms=OLD_MS).event_id
    assert found(database, body="30d")
    store.by_hand("UPDATE event SET lacks = 'identity' WHERE id = ?", lacks)
    store.by_hand("INSERT INTO put_off (event_id, removed) VALUES (?, 'body')", waits)
    assert found(database, body="30d") == []


def test_while_something_of_the_class_goes_nobody_is_needed(
    store: Store, database: Database
) -> None:
    store.add(received_at_ms=OLD_MS)
    store.by_hand(REMOVAL, NOW_MS - NOW_MS % DAY_MS)
    [item] = found(database, body="30d")
    assert not item.needs_somebody
    assert table.needs_nobody([item]) == "Needs nobody: 1 class is being removed (body)."


def test_of_a_person_the_time_since_the_closing_counts(store: Store, database: Database) -> None:
    closed: dict[str, Any] = {"identity": "30d", **FROM_CLOSED}
    store.add(user_ref="u", received_at_ms=OLD_MS)
    assert found(database, **closed) == []
    store.by_hand(CLOSING, OLD_MS, NOW_MS)
    assert found(database, **closed) == [], "it was noted just now"
    store.by_hand("UPDATE closing SET noted_at_ms = at_ms")
    assert [item.about for item in found(database, **closed)] == ["identity"]
    store.by_hand(BOOKMARK, "identity closings", OLD_MS, 99)
    assert found(database, **closed) == []
    store.add(user_ref=None, body=b"nobody's", received_at_ms=OLD_MS)
    assert [item.about for item in found(database, **closed)] == ["identity"]
    store.by_hand("DELETE FROM closing")
    store.by_hand("UPDATE event SET user_ref = NULL, closed_at_ms = ?", NOW_MS)
    assert found(database, record="30d", **FROM_CLOSED) == [], "their persons' time runs still"


def test_old_rejections_are_told(store: Store, database: Database) -> None:
    store.by_hand(
        "INSERT INTO rejection (at_ms, endpoint, remote_ip, reason) VALUES (?, '', '', 'x')", OLD_MS
    )
    assert [item.about for item in found(database, rejections="30d")] == ["rejections"]
    assert found(database, rejections="32d") == []


def test_an_erasure_that_is_not_done_is_told_until_it_is(store: Store, database: Database) -> None:
    store.by_hand(ERASURE, NOW_MS - 60_000)
    assert found(database, NOW_MS - 1) == [], "it may be under way"
    [item] = found(database)
    assert (item.kind, item.count, item.needs_somebody) == ("erasure", 1, True)
    assert "the database's files may still hold something" in item.text
    store.by_hand("INSERT INTO to_erase (event_id, erasure_id) SELECT 7, id FROM erasure")
    [item] = found(database)
    assert "1 erasure was begun and not ended" in item.text
    store.by_hand("DELETE FROM to_erase")
    store.by_hand("UPDATE erasure SET gone_at_ms = at_ms")
    assert found(database) == []


def test_that_the_keys_copy_has_who_was_erased_is_told_until_it_is_renewed(
    store: Store, database: Database
) -> None:
    own: Any = SimpleNamespace(encryption=True, backup=Backup.model_validate({"keys": "/keys"}))

    def told(now_ms: int = NOW_MS) -> list[str]:
        situation = Situation(record=database, now_ms=now_ms, settings=own)
        return [item.about for item in table.items(situation, kinds=["erasure"])]

    assert told() == []
    store.by_hand(ERASURE, NOW_MS - 60_000)
    store.by_hand("UPDATE erasure SET gone_at_ms = at_ms")
    assert told(NOW_MS - 1) == [], "it may be under way"
    assert told() == ["keys"]
    [(number,)] = store.rows("SELECT id FROM erasure")
    store.by_hand(RENEWED, NOW_MS, f"up to erasure {number}")
    assert told() == []
    store.by_hand(ERASURE, NOW_MS - 60_000)
    store.by_hand("UPDATE erasure SET gone_at_ms = at_ms")
    assert told() == ["keys"]


RENEWED = "INSERT INTO operator_action (at_ms, actor, action, note) VALUES (?, 'ada', 'keys', ?)"
BACKUP = "INSERT INTO operator_action (at_ms, actor, action) VALUES (?, 'ada', 'backup')"


def without_backup(database: Database, *, warn_after: str | None) -> list[str]:
    """Return what is told of backups by a configuration with this, or with none of them."""
    own: Any = SimpleNamespace(backup=None)
    if warn_after is not None:
        own.backup = Backup.model_validate({"warn_after": warn_after})
    situation = Situation(record=database, now_ms=NOW_MS, settings=own)
    return [item.text for item in table.items(situation, kinds=["backup"])]


def test_a_record_without_a_backup_is_told_once_it_is_that_old(
    store: Store, database: Database
) -> None:
    assert without_backup(database, warn_after="1d") == []
    store.add(received_at_ms=NOW_MS - DAY_MS - 1)
    assert without_backup(database, warn_after="2d") == []
    assert without_backup(database, warn_after="1d") == ["There is no backup of the record."]


def test_that_the_last_backup_is_too_old_is_told_where_there_shall_be_any(
    store: Store, database: Database
) -> None:
    store.add(received_at_ms=OLD_MS)
    for at_ms in (OLD_MS, NOW_MS - 2 * DAY_MS - 1):
        store.by_hand(BACKUP, at_ms)
    assert without_backup(database, warn_after=None) == []
    assert without_backup(database, warn_after="3d") == []
    [text] = without_backup(database, warn_after="2d")
    assert text == "The last backup of the record is of 2023-11-12 22:13:19 UTC."
    assert keepstatus.at_a_glance(database, None, NOW_MS).last_backup_ms == NOW_MS - 2 * DAY_MS - 1
