"""`premblyd record prune`."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.keeping import cli_prune, removing
from premblyd.features.keeping.tables import Removed
from premblyd.ground import telemetry, times
from premblyd.store.engine import Transaction
from tests.support.commands import json_of, read, recorded_in, run
from tests.support.database import by_hand

YEAR_MS = 366 * 86_400_000


def with_retention(config: Path, **periods: str) -> None:
    retention = {name.rstrip("_"): text for name, text in periods.items()}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"retention": retention}))


def age(config: Path) -> None:
    """Have all events come a year earlier."""
    by_hand(recorded_in(config), "UPDATE event SET received_at_ms = received_at_ms - ?", YEAR_MS)
    by_hand(recorded_in(config), "UPDATE rejection SET at_ms = at_ms - ?", YEAR_MS)


def test_a_dry_run_counts_what_goes_and_what_is_held_back_and_changes_nothing(config: Path) -> None:
    done = run("record", "prune", "--config", config)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Nothing to delete: the configuration has no `retention`")
    assert json_of(config, "record", "prune", "--dry-run") == {"would_remove": [], "put_off": []}
    age(config)
    with_retention(config, body="90d", identity="200d", rejections="1d")
    waits = "SELECT event_id FROM delivery WHERE state IN ('pending', 'running')"
    ((user_ref,),) = read(config, f"SELECT min(user_ref) FROM event WHERE id NOT IN ({waits})")
    assert json_of(config, "person", "hold", "--user-ref", user_ref)["events"] > 0
    found = json_of(config, "record", "prune", "--dry-run")
    assert {each["removed"] for each in found["would_remove"]} == {"identity", "rejections"}
    assert {each["why"] for each in found["put_off"]} == {"waits", "hold"}
    words = run("record", "prune", "--dry-run", "--config", config).out
    assert all(each["month"] in words for each in found["would_remove"])
    assert "is on legal hold: `premblyd person hold --list`" in words
    assert read(config, "SELECT count(*) FROM event WHERE removed_parts IS NOT NULL") == [(0,)]


def test_interrupted_it_says_how_much_it_did(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_retention(config, rejections="1d")

    def interrupted(_: object, round_: Any, now_ms: int) -> None:
        round_.removed["rejections"] += 2
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_prune, "work_off", interrupted)
    done = run("record", "prune", "--yes", "--config", config)
    assert done.code == 1
    assert done.err.startswith("Interrupted after 2 rows; nothing is half deleted. ")


def test_each_try_that_fails_is_logged(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(transaction: Transaction, removed: Removed, ids: list[int]) -> None:
        raise RuntimeError("nobody foresaw this")

    def keep(event: str, fields: Mapping[str, Any]) -> None:
        told.append((event, type(fields["cause"])))

    told: list[tuple[str, type]] = []
    monkeypatch.setattr(telemetry, "LISTENERS", [*telemetry.LISTENERS, keep])
    monkeypatch.setattr(removing, "remove", fail)
    age(config)
    with_retention(config, body="90d")
    done = run("record", "prune", "--yes", "--config", config)
    assert done.code == 0
    assert "because of a fault in premblyd" in done.out
    ((events,),) = read(config, "SELECT count(*) FROM event")
    assert len(told) > events, "many at once, and each by itself"
    assert set(told) == {("retention.failed", RuntimeError)}


def test_it_removes_what_a_dry_run_counted_and_is_on_record(config: Path) -> None:
    age(config)
    with_retention(config, body="90d", record="300d", rejections="1d")
    would = json_of(config, "record", "prune", "--dry-run")["would_remove"]
    counted = {each["removed"]: each["count"] for each in would}
    assert counted.keys() == {"record", "rejections"}
    done = json_of(config, "record", "prune", "--yes")
    assert {name: count for name, count in done["removed"].items() if count} == counted
    assert done["freed_bytes"] > 0
    assert read(config, "SELECT count(*) FROM gone_event") == [(counted["record"],)]
    [(note,)] = read(config, "SELECT note FROM operator_action WHERE action = 'prune'")
    assert note == "body 90d, record 300d, rejections 1d"
    again = run("record", "prune", "--config", config)
    assert (again.code, again.out.splitlines()[0]) == (0, "Nothing had expired.")


def trust(config: Path, by_ms: int) -> int:
    """Have the trusted time be so far from the clock; return it."""
    trusted_ms = time.time_ns() // 1_000_000 + by_ms
    by_hand(recorded_in(config), "UPDATE record SET trusted_ms = ? WHERE id = 1", trusted_ms)
    return trusted_ms


def would_remove(config: Path, *flags: str) -> Any:
    done = run("record", "prune", "--dry-run", *flags, "--json", "--config", config)
    assert "by the time that has passed it should be" in done.err
    return json.loads(done.out)["would_remove"]


@pytest.mark.parametrize("by_ms", [-2 * YEAR_MS, 2 * YEAR_MS])
def test_where_clock_and_time_are_apart_it_asks_which_is_right(config: Path, by_ms: int) -> None:
    age(config)
    with_retention(config, record="300d", rejections="1d")
    trusted_ms = trust(config, by_ms)
    by_clock = would_remove(config, "--trust-clock")
    assert {each["removed"] for each in by_clock} == {"record", "rejections"}
    assert bool(would_remove(config)) == (by_ms > 0)
    before = read(config, "SELECT count(*) FROM event")
    refused = run("record", "prune", "--yes", "--config", config)
    assert refused.code == 1
    passed = times.for_people(trusted_ms)
    assert "Nothing was deleted: the clock says 2" in refused.err
    assert f"has passed it should be {passed} UTC. If the clock is wrong" in refused.err
    assert read(config, "SELECT count(*) FROM event") == before
    assert read(config, "SELECT trusted_ms FROM record WHERE id = 1") == [(trusted_ms,)]
    count = sum(each["count"] for each in by_clock)
    done = run("record", "prune", "--trust-clock", "--yes", "--config", config)
    assert done.code == 0
    assert f"it should be {passed} UTC: {count} rows would be deleted by the clock." in done.err
    assert read(config, "SELECT count(*) FROM event") < before
    ((now_ms,),) = read(config, "SELECT trusted_ms FROM record WHERE id = 1")
    assert abs(now_ms - time.time_ns() // 1_000_000) < YEAR_MS / 366
    [(note,)] = read(config, "SELECT note FROM operator_action WHERE action = 'trust-clock'")
    assert passed in note
    assert run("record", "prune", "--yes", "--config", config).code == 0
