"""What somebody has put into the table of pauses by hand: SQLite takes any value."""

from premblyd.engines.engine import Database
from premblyd.queue.pauses import PauseLog
from premblyd.record import statistics
from tests.store.test_pauses import found, resume, round_of
from tests.support.clock import SettableClock
from tests.support.logs import logged
from tests.support.queue import add_many, claim
from tests.support.store import NOW_MS, Store


def test_a_pause_that_somebody_wrote_by_hand_holds_and_is_told(
    store: Store, record: Database
) -> None:
    columns = "action, since_ms, until_ms, reason"
    store.by_hand(f"INSERT INTO pause ({columns}) VALUES ('crm', 'long', NULL, x'ff')")
    store.by_hand(f"INSERT INTO pause ({columns}) VALUES ('mail', 1, 'later', 7)")
    add_many(store, 1, "mail")
    assert claim(store, crm=9, mail=9).jobs == []
    [item] = found(record, NOW_MS, "crm", "mail")
    assert item.text.startswith("crm has been paused since long")
    assert [each.action for each in statistics.paused(record, NOW_MS)] == ["crm", "mail"]
    with logged() as lines:
        store.wait(round_of(PauseLog(store.writer, SettableClock())))
    assert [line["event"] for line in lines] == ["action.paused"] * 2
    assert resume(store, "mail") is True
