"""What is kept and what has gone, as `status`, the console and metrics say it."""

import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from premblyd.features.backup import copying
from premblyd.features.keeping import shown
from premblyd.features.keeping.settings import Retention
from premblyd.ground.times import DAY_MS
from premblyd.store.connections import connect_operator
from premblyd.store.engine import Database
from tests.support.commands import run
from tests.support.store import NOW_MS, Store

HOLD = "INSERT INTO hold (user_ref, since_ms, until_ms, actor) VALUES (?, ?, ?, 'ada')"
COLUMNS = "at_ms, vacuumed_at_ms, actor, found_by, events, cancelled"
ERASURE = f"INSERT INTO erasure ({COLUMNS}) VALUES (?, ?, 'ada', 'user_ref', 1, 0)"


def said(database: Database, **retention: str) -> dict[str, str]:
    periods = {name.strip("_"): period for name, period in retention.items()}
    own: Any = SimpleNamespace(retention=Retention.model_validate(periods))
    return dict(shown.lines(shown.at_a_glance(database, own, NOW_MS), own))


def test_periods_are_said_and_what_is_kept_for_ever(database: Database) -> None:
    assert said(database) == {}, "nothing of it is used"
    told = said(database, body="90d", record_="7y")
    assert told == {"periods": "body 90d, record 7y; for ever: rejections"}
    told = said(database, identity="52w")
    assert told["periods"] == "identity 364d; for ever: record, rejections"


def test_holds_are_counted_and_the_first_to_end_is_named(store: Store, database: Database) -> None:
    for until_ms in (None, NOW_MS, NOW_MS + DAY_MS, NOW_MS + 3 * DAY_MS, NOW_MS + 300 * DAY_MS):
        store.by_hand(HOLD, "u", NOW_MS, until_ms)
    assert said(database)["holds"] == ("4 active; the first ends at 2023-11-15 22:13:20 UTC")


def test_erasures_are_counted(store: Store, database: Database) -> None:
    for _ in range(2):
        store.by_hand(ERASURE, NOW_MS, NOW_MS)
    assert said(database)["erased"] == "2 at request"
    for by_ms in (DAY_MS, 0):
        store.by_hand(ERASURE, NOW_MS + by_ms, None)
    assert said(database)["erased"] == (
        "4 at request; bytes of 2 erasures since 2023-11-14 22:13:20 UTC may remain in the"
        " database's file: `premblyd record vacuum` deletes them"
    )


def test_the_newest_copy_of_each_folder_is_named(store: Store, database: Database) -> None:
    made = {"copied_at_ms": NOW_MS, "file": "c.db", "file_bytes": 4096, "error": None}
    with closing(connect_operator(store.place)) as writing:
        copying.note(writing, "/b", NOW_MS, **made)
        copying.note(writing, "/never", NOW_MS, error="It is gone.")
    assert said(database) == {"newest copy": "/b/c.db, of 2023-11-14 22:13:20 UTC, 4.0 KiB"}


def test_status_says_it_to_people_and_to_programs(config: Path) -> None:
    config.write_text(json.dumps(json.loads(config.read_text()) | {"retention": {"body": "90d"}}))
    out = run("status", "--config", config).out
    assert "\nPeriods: body 90d; for ever: identity, record, rejections.\n" in out
    shown = json.loads(run("status", "--json", "--config", config).out)["kept"]
    assert shown["periods"] == {"body": "90d", "identity": None, "record": None, "rejections": None}
    assert (shown["holds"], shown["erasures"]) == (0, 0)
