"""What is kept and what has gone, as `status` says it."""

import json
from pathlib import Path

from premblyd.features.keeping import shown
from premblyd.features.keeping.settings import Retention
from premblyd.ground.times import DAY_MS
from premblyd.record.told import Situation
from premblyd.store.engine import Database
from tests.support.commands import run
from tests.support.store import NOW_MS, Store

HOLD = "INSERT INTO hold (user_ref, since_ms, until_ms, actor) VALUES (?, ?, ?, 'ada')"
COLUMNS = "at_ms, vacuumed_at_ms, actor, found_by, events, cancelled"
ERASURE = f"INSERT INTO erasure ({COLUMNS}) VALUES (?, ?, 'ada', 'user_ref', 1, 0)"


def said(database: Database) -> list[str]:
    return [*shown._of_kept(Situation(record=database, now_ms=NOW_MS))]


def test_periods_are_said() -> None:
    retention = Retention.model_validate({"body": "90d", "record": "7y"})
    assert shown.in_words(retention) == "body 90d, record 7y"
    retention = Retention.model_validate({"identity": "52w"})
    assert shown.in_words(retention) == "identity 364d"


def test_holds_in_force_are_counted(store: Store, database: Database) -> None:
    assert said(database) == [], "nothing of it is used"
    for until_ms in (None, NOW_MS, NOW_MS + DAY_MS, NOW_MS + 300 * DAY_MS):
        store.by_hand(HOLD, "u", NOW_MS, until_ms)
    assert said(database) == ["Legal holds: 3."]


def test_erasures_are_counted(store: Store, database: Database) -> None:
    for _ in range(2):
        store.by_hand(ERASURE, NOW_MS, NOW_MS)
    assert said(database) == ["Erasures: 2."]
    for by_ms in (DAY_MS, 0):
        store.by_hand(ERASURE, NOW_MS + by_ms, None)
    assert said(database) == [
        "Erasures: 4. Bytes of those since 2023-11-14 22:13:20 UTC may remain in the database's"
        " file: `premblyd record vacuum` deletes them."
    ]


def test_status_says_it_to_people_and_to_programs(config: Path) -> None:
    config.write_text(json.dumps(json.loads(config.read_text()) | {"retention": {"body": "90d"}}))
    out = run("status", "--config", config).out
    assert "\nRetention: body 90d.\n" in out
    kept = json.loads(run("status", "--json", "--config", config).out)["kept"]
    assert kept == {"holds": 0, "erasures": 0, "bytes_remain_since_ms": None}
