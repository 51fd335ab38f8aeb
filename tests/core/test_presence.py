"""What a daemon says of itself, found by commands of the same machine."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from premblyd import presence
from premblyd.config import load
from premblyd.config.models import Config
from premblyd.features.postgresql.settings import Server
from premblyd.ground import system
from premblyd.presence import Presence
from premblyd.receive.listening import Listening
from tests.support.configuration import configuration
from tests.support.logs import Lines

SERVER = Server("postgresql://premblyd@db1,db2/premblyd")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))


def running(settings: Config, path: Path, started_with: Config | None = None) -> Presence:
    """Return this process as a daemon that uses these settings."""
    own = Listening(sockets=[], is_passed=False)
    began = started_with or settings
    return presence.of_this_process(
        settings, path, started_with=began, started_at_ms=1, listening=own
    )


def publish(path: Path) -> Presence:
    """Publish this process as a daemon with the configuration at `path`."""
    own = running(written(path), path)
    presence.publish(own, SERVER)
    return own


def written(path: Path, **changes: Any) -> Config:
    path.write_text(json.dumps(configuration(**changes)))
    return load.load_config(path)


def test_of_several_on_a_server_the_one_with_the_same_configuration_is_found_or_another(
    tmp_path: Path,
) -> None:
    paths = [tmp_path / f"{name}.yaml" for name in "ab"]
    published = [publish(path) for path in paths]
    assert [presence.find(SERVER, path) for path in paths] == published
    assert presence.find(Server("postgresql://db1/another"), paths[0]) is None
    for path in tmp_path.glob("*.running"):
        fields = json.loads(path.read_text())
        if fields["configuration"] == str(paths[0]):  # as a killed one leaves it
            path.write_text(json.dumps(fields | {"process_start": 1}))
    assert presence.find(SERVER, paths[0]) == published[1]
    presence.withdraw(SERVER, paths[1])
    assert presence.find(SERVER, paths[1]) is None


def test_the_databases_password_is_told_to_need_a_restart_also_after_a_reload(
    tmp_path: Path,
) -> None:
    path, file = tmp_path / "a.yaml", tmp_path / "password"
    place = {"url": SERVER.url, "password": {"file": "password"}}
    file.write_text("hush-old")
    with_password, without = written(path, database=place), written(path, database=SERVER.url)
    file.write_text("hush-new")
    with_another = written(path, database=place)
    changed = "started with another `database`"
    for started_with, now, told in (
        (with_password, with_another, ["uses another secret for database password"]),
        (with_password, with_password, []),
        (with_password, without, [changed]),
        (without, with_password, [changed]),
    ):
        assert load.changed(started_with, now) == (["database"] if told else [])
        daemon = f"the running daemon (pid {os.getpid()})"
        for used in (started_with, now):  # before it reads the files again, and after that
            found = presence.differences(running(used, path, started_with), now, path)
            assert list(found) == [f"{daemon} {difference}: restart it" for difference in told]


def test_a_second_place_for_a_secret_that_the_daemon_has_needs_no_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, keys = tmp_path / "a.yaml", {"live": {"env": "A"}}
    for name in "AB":
        monkeypatch.setenv(name, "hush")
    own = running(written(path, endpoint={"keys": keys}), path)
    reload = f"make it read the file with `kill -HUP {own.pid}`"
    for name, remedies in (("A", [reload]), ("B", ["restart it"] * 2)):
        now = written(path, endpoint={"keys": keys | {"next": {"env": name}}})
        found = presence.differences(own, now, path)
        assert [text.rpartition(": ")[2] for text in found] == remedies


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder for all, and no other place for the daemon's file."""
    folder = tmp_path / "tmp"
    folder.mkdir(mode=0o777)
    folder.chmod(0o1777)
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(presence, "SERVICE_FOLDER", tmp_path / "none")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder / f"premblyd-{os.geteuid()}"


def test_a_folder_that_others_may_write_is_neither_written_nor_believed(
    shared: Path, tmp_path: Path, lines: Lines
) -> None:
    own = publish(tmp_path / "a.yaml")
    assert presence.find(SERVER, tmp_path / "a.yaml") == own
    shared.chmod(0o777)
    assert presence.find(SERVER, tmp_path / "a.yaml") is None
    publish(tmp_path / "a.yaml")
    assert [line["reason"] for line in lines] == [f"{shared} belongs to another user"]
    shared.chmod(0o700)
    assert presence.find(SERVER, tmp_path / "a.yaml") == own


def test_a_link_that_somebody_made_before_is_not_followed(
    shared: Path, tmp_path: Path, lines: Lines
) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    shared.symlink_to(elsewhere)
    publish(tmp_path / "a.yaml")
    assert [line["event"] for line in lines] == ["daemon.not_published"]
    assert list(elsewhere.iterdir()) == []


def test_a_daemon_that_is_hidden_is_known_by_its_number() -> None:
    """In a sandbox /proc shows no process that may not be looked into."""
    assert system.runs(os.getpid(), system.process_start(os.getpid()) or 0)
    assert not system.runs(os.getpid(), 1)
    assert not system.runs(2**22 + 1, 1)  # above the kernel's highest number
