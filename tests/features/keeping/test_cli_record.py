"""`premblyd record prune`."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from premblyd.ground import times
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


def test_a_dry_run_counts_what_has_expired_and_changes_nothing(config: Path) -> None:
    done = run("record", "prune", "--config", config)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Nothing to delete: the configuration has no `retention`")
    assert json_of(config, "record", "prune", "--dry-run") == {"would_remove": {}}
    age(config)
    with_retention(config, body="90d", identity="200d", rejections="1d")
    found = json_of(config, "record", "prune", "--dry-run")["would_remove"]
    ((events,),) = read(config, "SELECT count(*) FROM event")
    assert (found.keys(), found["identity"]) == ({"identity", "rejections"}, events)
    words = run("record", "prune", "--dry-run", "--config", config).out
    assert f"Expired: identity {events}, rejections " in words
    assert read(config, "SELECT count(*) FROM event WHERE removed_parts IS NOT NULL") == [(0,)]


def test_it_removes_what_a_dry_run_counted_and_is_on_record(config: Path) -> None:
    age(config)
    with_retention(config, body="90d", record="300d", rejections="1d")
    would = json_of(config, "record", "prune", "--dry-run")["would_remove"]
    done = json_of(config, "record", "prune", "--yes")
    assert done["removed"].keys() == would.keys() == {"record", "rejections"}
    assert would["record"] == done["removed"]["record"] + done["put_off"]["record"]
    assert done["put_off"]["record"] > 0, "something waits"
    assert read(config, "SELECT count(*) FROM gone_event") == [(done["removed"]["record"],)]
    [(note,)] = read(config, "SELECT note FROM operator_action WHERE action = 'prune'")
    assert note == "body 90d, record 300d, rejections 1d"
    again = run("record", "prune", "--config", config)
    assert (again.code, again.out.startswith("Deleted: nothing. Expired, but kept")) == (0, True)


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
    assert by_clock.keys() == {"record", "rejections"}
    assert bool(would_remove(config)) == (by_ms > 0)
    before = read(config, "SELECT count(*) FROM event")
    refused = run("record", "prune", "--yes", "--config", config)
    assert refused.code == 1
    passed = times.for_people(trusted_ms)
    assert "Nothing was deleted: the clock says 2" in refused.err
    assert f"has passed it should be {passed} UTC. If the clock is wrong" in refused.err
    assert read(config, "SELECT count(*) FROM event") == before
    assert read(config, "SELECT trusted_ms FROM record WHERE id = 1") == [(trusted_ms,)]
    count = sum(by_clock.values())
    done = run("record", "prune", "--trust-clock", "--yes", "--config", config)
    assert done.code == 0
    assert (
        f"it should be {passed} UTC: up to {count} rows would be deleted by the clock." in done.err
    )
    assert read(config, "SELECT count(*) FROM event") < before
    ((now_ms,),) = read(config, "SELECT trusted_ms FROM record WHERE id = 1")
    assert abs(now_ms - time.time_ns() // 1_000_000) < YEAR_MS / 366
    [(note,)] = read(config, "SELECT note FROM operator_action WHERE action = 'trust-clock'")
    assert passed in note
    assert run("record", "prune", "--yes", "--config", config).code == 0
