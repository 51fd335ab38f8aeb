"""`premblyd prune`."""

import json
from pathlib import Path
from typing import Any

import pytest

from premblyd.cli import prune
from tests.support.commands import json_of, recorded_in, run
from tests.support.database import changing, rows

YEAR_MS = 366 * 86_400_000


def of_record(config: Path, sql: str) -> list[tuple[Any, ...]]:
    return rows(recorded_in(config), sql)


def with_retention(config: Path, **periods: str) -> None:
    retention = {name.rstrip("_"): text for name, text in periods.items()}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"retention": retention}))


def age(config: Path) -> None:
    """Have all events come a year earlier."""
    with changing(recorded_in(config)) as connection:
        connection.execute("UPDATE event SET received_at_ms = received_at_ms - ?", [YEAR_MS])
        connection.execute("UPDATE rejection SET at_ms = at_ms - ?", [YEAR_MS])


def test_without_periods_it_says_that_nothing_is_removed(config: Path) -> None:
    done = run("prune", "--config", config)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Nothing is removed: the configuration has no `retention`")
    assert json_of(config, "prune", "--dry-run") == {"would_remove": [], "held_back": []}


def test_a_dry_run_counts_what_goes_and_what_is_held_back_and_changes_nothing(
    config: Path,
) -> None:
    age(config)
    with_retention(config, body="90d", identity="200d", rejections="1d", from_="closed")
    ((user_ref,),) = of_record(
        config,
        "SELECT user_ref FROM event WHERE user_ref IS NOT NULL AND NOT EXISTS (SELECT 1 FROM"
        " delivery WHERE event_id = event.id AND state IN ('pending', 'running'))"
        " ORDER BY id LIMIT 1",
    )
    assert json_of(config, "hold", "--user-ref", user_ref)["events"] > 0
    found = json_of(config, "prune", "--dry-run")
    assert {each["removed"] for each in found["would_remove"]} == {"body", "identity", "rejections"}
    assert {each["why"] for each in found["held_back"]} == {"waits", "held", "not closed"}
    words = run("prune", "--dry-run", "--config", config).out
    assert all(each["month"] in words for each in found["would_remove"])
    assert "is held: `premblyd hold --list`" in words
    assert of_record(config, "SELECT count(*) FROM event WHERE lacks IS NOT NULL") == [(0,)]


def test_interrupted_it_says_how_much_is_done(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(config)
    with_retention(config, rejections="1d")

    def interrupted(_: object, round_: Any, now_ms: int) -> None:
        round_.removed["rejections"] += 2
        raise KeyboardInterrupt

    monkeypatch.setattr(prune, "work_off", interrupted)
    done = run("prune", "--yes", "--config", config)
    assert done.code == 1
    assert done.err.startswith("Interrupted after 2 rows. What was begun is whole; ")


def test_it_removes_what_a_dry_run_counted_and_is_on_record(config: Path) -> None:
    age(config)
    with_retention(config, body="90d", record="300d", rejections="1d")
    would = json_of(config, "prune", "--dry-run")["would_remove"]
    counted = {each["removed"]: each["count"] for each in would}
    assert counted.keys() == {"record", "rejections"}
    done = json_of(config, "prune", "--yes")
    assert {name: count for name, count in done["removed"].items() if count} == counted
    assert done["freed_bytes"] > 0
    assert of_record(config, "SELECT count(*) FROM gone_event") == [(counted["record"],)]
    assert of_record(config, "SELECT note FROM operator_action WHERE action = 'prune'") == [
        ("body 90d, record 300d, rejections 1d",)
    ]
    again = run("prune", "--config", config)
    assert (again.code, again.out.splitlines()[0]) == (0, "Nothing was over.")
