"""Daemons on one server, as those that look for one find them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from premblyd import presence
from premblyd.config import load
from premblyd.config.models import Config
from premblyd.features.postgresql.settings import Server
from premblyd.presence import Presence
from premblyd.receive.listening import Listening
from tests.support.configuration import configuration

SERVER = "postgresql://premblyd@db1,db2/premblyd"


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
    path.write_text(json.dumps(configuration(**{"database": SERVER} | changes)))
    return load.load_config(path)


def test_of_several_on_a_server_the_one_with_the_same_configuration_is_found(
    tmp_path: Path,
) -> None:
    paths = [tmp_path / f"{name}.yaml" for name in "ab"]
    for path in paths:
        found = publish(path)
        assert found
        assert found.configuration == str(path)
    for path in tmp_path.glob("*.running"):
        fields = json.loads(path.read_text())
        if fields["configuration"] == str(paths[0]):  # as a killed one leaves it
            path.write_text(json.dumps(fields | {"process_start": 1}))
    assert presence.find(Server(SERVER), paths[0]) is None
    presence.withdraw(Server(SERVER), paths[1])
    assert presence.find(Server(SERVER), paths[1]) is None


def test_what_differs_is_told_with_what_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    daemon = f"the running daemon (pid {os.getpid()})"
    found = publish(path)
    assert found
    reload = f"`kill -HUP {os.getpid()}` makes it read the file"
    for changes, told in (
        ({}, []),
        ({"max_body": "1 MiB"}, [f"uses an older configuration: {reload}"]),
        ({"database": f"{SERVER}2"}, ["started with another `database`: restart it"]),
        ({"listen": "127.0.0.1:1"}, ["started with another `listen`: restart it"]),
    ):
        assert list(found.differences(written(path, **changes), path)) == [
            f"{daemon} {difference}" for difference in told
        ]
    other = tmp_path / "b.yaml"
    assert list(found.differences(written(other), other)) == [
        f"{daemon} reads {path}, not this file"
    ]
