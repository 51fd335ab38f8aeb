"""What a daemon says of itself, found by commands of the same machine."""

import json
from pathlib import Path

import pytest

from premblyd import presence
from premblyd.config.load import load_config
from premblyd.databases import Server
from premblyd.listening import Listening
from premblyd.presence import Presence
from tests.support.configuration import configuration

SERVER = Server("postgresql://premblyd@db1,db2/premblyd")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))


def publish(path: Path) -> Presence:
    """Publish this process as a daemon with the configuration at `path`."""
    path.write_text(json.dumps(configuration()))
    listening = Listening(sockets=[], is_passed=False)
    settings = load_config(path)
    own = presence.of_this_process(
        settings, path, started_with=settings, started_at_ms=1, listening=listening
    )
    presence.publish(own, SERVER)
    return own


def test_of_several_on_a_server_the_one_with_the_same_configuration_is_found(
    tmp_path: Path,
) -> None:
    paths = [tmp_path / f"{name}.yaml" for name in "abc"]
    published = [publish(path) for path in paths]
    assert [presence.find(SERVER, path) for path in paths] == published


def test_a_daemon_with_another_configuration_is_found_by_its_server(tmp_path: Path) -> None:
    own = publish(tmp_path / "a.yaml")
    assert presence.find(SERVER, tmp_path / "other.yaml") == own
    assert presence.find(Server("postgresql://db1/another"), tmp_path / "a.yaml") is None
    presence.withdraw(SERVER, tmp_path / "a.yaml")
    assert presence.find(SERVER, tmp_path / "other.yaml") is None


def test_what_a_killed_one_left_is_passed_over(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.yaml" for name in "ab"]
    published = [publish(path) for path in paths]
    for path in tmp_path.glob("*.running"):
        fields = json.loads(path.read_text())
        if fields["configuration"] == str(paths[0]):
            path.write_text(json.dumps(fields | {"process_start": 1}))
    assert presence.find(SERVER, paths[0]) == published[1]
