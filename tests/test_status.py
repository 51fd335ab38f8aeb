"""`premblyd status` of the whole product."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import recorded_in, run
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.webhooks import signed  # noqa: F401

KINDS = ["daemon", "failing", "dead", "doubted", "new_code", *["unmatched"] * 3]


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


def test_status_has_every_item_for_programs(config: Path) -> None:
    status = shown(config, "status")
    assert " ".join(status) == "ok daemon record_since_ms attention hosts kept paused days"
    assert (status["ok"], status["daemon"]) == (False, None)
    assert kinds_of(status) == KINDS
    names = "kind severity text remedy command target count about"
    assert all(list(item) == names.split() for item in status["attention"])


def test_status_of_another_database_asks_for_no_daemon(config: Path) -> None:
    done = run("status", "--json", "--database", recorded_in(config))
    assert kinds_of(json.loads(done.out)) == KINDS[1:]
    assert done.code == 1, "dead ones and a failing action are a warning"


def kinds_of(status: Any) -> list[str]:
    """Return the kinds of the items, without what waits for the host that was stopped: that a
    server's record tells too."""
    return [item["kind"] for item in status["attention"] if item["kind"] != "host"]
