"""What `premblyd check` warns of, and how it compares the running daemon with the files."""

import json
import os
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from tests.support.commands import json_of, run
from tests.support.configuration import configuration, shell
from tests.support.daemon import Premblyd
from tests.support.webhooks import KEY


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "premblyd.yaml"
    if path.exists():  # a daemon's
        changes.setdefault("database", json.loads(path.read_text())["database"])
    path.write_text(json.dumps(configuration(**changes)))
    path.chmod(0o640)
    return path


def check(config: Path) -> Any:
    """Return what `check --json` prints of a good configuration."""
    return json_of(config, "check")


def warnings(config: Path) -> list[str]:
    """Return what it warns of. That it prints the same without --json, test_cli looks at."""
    found: list[str] = check(config)["warnings"]
    return found


def test_no_daemon_is_a_note_and_no_warning(tmp_path: Path) -> None:
    config = write(tmp_path)
    assert check(config)["daemon"] is None
    for _ in range(2):
        done = run("check", "--config", config)
        note = f"\nNo daemon runs on {tmp_path}/premblyd.db."
        assert (done.code, done.err, note in done.out) == (0, "", True)
        (tmp_path / "premblyd.db.running").write_text("{}")  # it can't be read


@pytest.mark.process
@pytest.mark.sqlite
def test_the_running_daemon_is_told_until_it_stops_or_is_killed(
    tmp_path: Path, daemon: Premblyd
) -> None:
    published = tmp_path / "premblyd.db.running"
    for end in (daemon.stop, daemon.kill):
        daemon.start()
        daemon.config.chmod(0o640)
        shown = check(daemon.config)
        assert (shown["warnings"], shown["daemon"]["listen"]) == ([], [daemon.address])
        line = f"A daemon runs on it: pid {daemon.process.pid}, version "
        assert line in run("check", "--config", daemon.config).out
        text = published.read_text()
        assert published.stat().st_mode & 0o777 == 0o640
        assert KEY not in text
        end()
        assert published.exists() == (daemon.process.returncode == -SIGKILL)
        assert check(daemon.config)["daemon"] is None
    published.write_text(json.dumps(json.loads(text) | {"pid": os.getpid()}))
    assert check(daemon.config)["daemon"] is None, "its pid is another process now"


@pytest.mark.process
def test_a_changed_file_is_told_until_it_is_reloaded(tmp_path: Path, daemon: Premblyd) -> None:
    pid = daemon.start().process.pid
    daemon.config.write_text(daemon.config.read_text() + "\n\n")
    daemon.config.chmod(0o640)
    assert warnings(daemon.config) == []
    write(tmp_path, actions=[shell("new", "true")])
    older = f"the running daemon (pid {pid}) uses an older configuration:"
    assert warnings(daemon.config) == [f"{older} `kill -HUP {pid}` makes it read the file"]
    quiet = run("check", "--quiet", "--config", daemon.config)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", ""), "systemd's reload begins so"
    daemon.reload()
    assert warnings(daemon.config) == []


@pytest.mark.process
@pytest.mark.sqlite  # of several on a server, a daemon is found by its configuration
def test_a_daemon_of_another_file_is_told(tmp_path: Path, daemon: Premblyd) -> None:
    pid = daemon.start().process.pid
    other = tmp_path / "other.yaml"
    other.write_text(daemon.config.read_text())
    other.chmod(0o640)
    reads = f"the running daemon (pid {pid}) reads {daemon.config}, not this file"
    assert warnings(other) == [reads]


@pytest.mark.process
@pytest.mark.sqlite
def test_a_daemon_that_can_not_publish_itself_works_all_the_same(
    tmp_path: Path, daemon: Premblyd
) -> None:
    (tmp_path / "premblyd.db.running").mkdir()
    assert daemon.start().send(b"{}").status == 200
    assert daemon.log("daemon.not_published")
    assert daemon.stop() == 0
