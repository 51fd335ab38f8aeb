"""What a daemon says of itself, found by commands of the same machine."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from premblyd import presence
from premblyd.config import load
from premblyd.config.models import Config
from premblyd.ground import system
from premblyd.presence import Presence
from premblyd.receive.listening import Listening
from tests.support.configuration import configuration
from tests.support.logs import Lines

DATABASE = "sqlite:////var/lib/premblyd/p.db"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))


def publish(path: Path, started_with: Config | None = None, **changes: Any) -> Presence | None:
    """Publish this process as a daemon with the configuration at `path`; return what is found."""
    now = written(path, **changes)
    presence.publish(
        now,
        path,
        started_with=started_with or now,
        started_at_ms=1,
        listening=Listening(sockets=[], is_passed=False),
    )
    return presence.find(now.database, path)


def written(path: Path, **changes: Any) -> Config:
    path.write_text(json.dumps(configuration(**{"database": DATABASE} | changes)))
    return load.load_config(path)


def test_a_folder_that_can_not_be_written_keeps_the_daemon_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(presence, "SERVICE_FOLDER", tmp_path / "none")
    assert publish(tmp_path / "a.yaml") is None
    assert [line["event"] for line in lines] == ["daemon.not_published"]


def test_a_daemon_that_is_hidden_is_known_by_its_number() -> None:
    """In a sandbox /proc shows no process that may not be looked into."""
    assert system.runs(os.getpid(), system.process_start(os.getpid()) or 0)
    assert not system.runs(os.getpid(), 1)
    assert not system.runs(2**22 + 1, 1)  # above the kernel's highest number
