"""What needs a restart is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import json_of
from tests.support.daemon import Premblyd
from tests.support.ports import free_port


def check(config: Path) -> Any:
    """Return what `check --json` prints of a good configuration."""
    return json_of(config, "check")


def warnings(config: Path) -> list[str]:
    """Return what it warns of. That it prints the same without --json, test_cli looks at."""
    found: list[str] = check(config)["warnings"]
    return found


@pytest.mark.process
def test_what_needs_a_restart_is_told_so_before_and_after_a_reload(daemon: Premblyd) -> None:
    """One daemon for all: each is put back before the next."""
    pid = daemon.start().process.pid
    same = json.loads(daemon.config.read_text())
    daemon.config.chmod(0o640)
    other = f"127.0.0.1:{free_port()}"
    for number, (key, value, told) in enumerate(
        [
            ("hosts", {"name": "another"}, "started with another `hosts`"),
            ("listen", other, "started with another `listen`"),
        ]
    ):
        daemon.config.write_text(json.dumps(same | {key: value}))
        words = [f"the running daemon (pid {pid}) {told}: restart it"]
        assert warnings(daemon.config) == words
        daemon.reload()
        assert daemon.log("config.needs_restart")[number]["setting"] == key
        assert warnings(daemon.config) == words
