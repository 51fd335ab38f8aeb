"""What an operator asks first: `status`, `stats`, and events as they come."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from premblyd.ground.times import DAY_MS
from tests.support.commands import recorded_in, run
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.database import by_hand, locked
from tests.support.waiting import wait_until
from tests.support.webhooks import signed  # noqa: F401

BODY = b'{"status": true, "response_code": "%02d", "verification": {"reference": "ref-%d"}}'


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premblyd]:
    """A daemon with an event, for the whole module: each test sends events of its own."""
    folder = tmp_path_factory.mktemp("status")
    with Premblyd(folder, actions=[shell("archive", "true", "*")]) as daemon:
        daemon.start()
        send(daemon, 0)
        yield daemon


def send(daemon: Premblyd, number: int, code: int = 0) -> None:
    assert daemon.send(BODY % (code, number)).status == 200


def shown(config: Path, *arguments: object) -> Any:
    return json.loads(run(*arguments, "--json", "--config", config).out)


def test_status_says_what_needs_attention_and_what_to_do(config: Path) -> None:
    done = run("status", "--config", config)
    assert (done.code, done.err) == (2, ""), "no daemon runs: that is critical"
    lines, text = done.out.splitlines(), " ".join(done.out.split())
    assert f"!! No daemon runs on {recorded_in(config)}: webhooks are not answered." in text
    assert "`premblyd replay --dead --action activate-customer`" in text
    assert "    premblyd deliveries --state dead --action activate-customer" in lines
    assert lines.count("    sudo premblyd check") == 1


@pytest.mark.process
@pytest.mark.promise
def test_status_is_good_while_all_is_well(daemon: Premblyd) -> None:
    done = run("status", "--config", daemon.config)
    assert (done.code, done.err) == (0, ""), done.out
    first, *others = done.out.splitlines()
    assert f"(pid {daemon.process.pid}) runs since " in first
    assert f" UTC, on {daemon.address}." in first
    assert "Nothing needs attention." in others


def test_a_new_record_is_told_for_a_day_and_needs_nobody(daemon: Premblyd) -> None:
    """As it may be a typo in the name of the database."""
    since_ms = shown(daemon.config, "status")["record_since_ms"]
    assert [since_ms] == [row[0] for row in daemon.rows("SELECT started_at_ms FROM host")]
    done = run("status", "--config", daemon.config)
    assert (done.code, "The record is new: it begins at " in done.out) == (0, True)
    by_hand(daemon.place, "UPDATE host SET started_at_ms = started_at_ms - ?", DAY_MS)
    assert "The record is new" not in run("status", "--config", daemon.config).out


@pytest.mark.process
def test_status_tells_a_daemon_that_cannot_keep_webhooks(
    daemon: Premblyd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("premblyd.cli.status.HEALTH_TIMEOUT_S", 40)
    with locked(daemon.place):
        # The health check's last result counts for a second.
        status = wait_until(lambda: bad(shown(daemon.config, "status")))
    assert status["daemon"]["pid"] == daemon.process.pid
    assert [item["kind"] for item in status["attention"]] == ["database"]
    assert "its health check says 503" in status["attention"][0]["text"]
    wait_until(lambda: shown(daemon.config, "status")["ok"])


def bad(status: Any) -> Any:
    return None if status["ok"] else status


@pytest.mark.process
def test_status_tells_a_daemon_that_hangs(
    daemon: Premblyd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("premblyd.cli.status.HEALTH_TIMEOUT_S", 0.3)
    daemon.signal(signal.SIGSTOP)
    try:
        [item] = shown(daemon.config, "status")["attention"]
    finally:
        daemon.signal(signal.SIGCONT)
    assert "it does not answer its health check" in item["text"]
