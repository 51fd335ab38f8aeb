"""What a daemon says of itself, found by commands of the same machine."""

import json
import os
from pathlib import Path

import pytest

from premblyd import presence, procfs
from premblyd.config import load
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


def test_the_databases_password_is_told_to_need_a_restart_also_after_a_reload(
    tmp_path: Path,
) -> None:
    path, file = tmp_path / "a.yaml", tmp_path / "password"
    place = {"url": SERVER.url, "password": {"file": "password"}}
    path.write_text(json.dumps(configuration(database=place)))
    file.write_text("hush-old")
    started_with = load_config(path)
    file.write_text("hush-new")
    listening = Listening(sockets=[], is_passed=False)

    def told() -> list[str]:
        """Return what a check finds before the daemon reads the files again, and after that."""
        now = load_config(path)
        before, after = (
            presence.of_this_process(
                settings, path, started_with=started_with, started_at_ms=1, listening=listening
            )
            for settings in (started_with, now)
        )
        assert (load.changed(started_with, now) == ["database"]) == (now != started_with)
        found = list(presence.differences(before, now, path))
        assert list(presence.differences(after, now, path)) == found
        return found

    daemon = f"the running daemon (pid {os.getpid()})"
    assert told() == [f"{daemon} uses another secret for database password: restart it"]
    file.write_text("hush-old")
    assert told() == []
    path.write_text(json.dumps(configuration(database=SERVER.url)))
    assert told() == [f"{daemon} started with another `database`: restart it"]
    started_with = load_config(path)
    path.write_text(json.dumps(configuration(database=place)))
    assert told() == [f"{daemon} started with another `database`: restart it"]


def test_a_second_place_for_a_secret_that_the_daemon_has_needs_no_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A", "hush")
    monkeypatch.setenv("B", "hush")
    path = tmp_path / "a.yaml"
    keys = {"live": {"env": "A"}}
    path.write_text(json.dumps(configuration(endpoint={"keys": keys})))
    settings, listening = load_config(path), Listening(sockets=[], is_passed=False)
    own = presence.of_this_process(
        settings, path, started_with=settings, started_at_ms=1, listening=listening
    )
    for name, remedy in (
        ("A", f"make it read the file with `kill -HUP {own.pid}`"),
        ("B", "restart it"),
    ):
        path.write_text(
            json.dumps(configuration(endpoint={"keys": keys | {"next": {"env": name}}}))
        )
        found = list(presence.differences(own, load_config(path), path))
        assert found[0].endswith(f"uses an older configuration: {remedy}")
        assert len(found) == (1 if name == "A" else 2)


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
    shared: Path, tmp_path: Path
) -> None:
    own = publish(tmp_path / "a.yaml")
    assert presence.find(SERVER, tmp_path / "a.yaml") == own
    shared.chmod(0o777)
    assert presence.find(SERVER, tmp_path / "a.yaml") is None
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        publish(tmp_path / "a.yaml")
    shared.chmod(0o700)
    assert presence.find(SERVER, tmp_path / "a.yaml") == own


def test_a_link_that_somebody_made_before_is_not_followed(shared: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shared.symlink_to(elsewhere)
    with pytest.raises(PermissionError):
        publish(tmp_path / "a.yaml")
    assert list(elsewhere.iterdir()) == []


def test_a_daemon_that_is_hidden_is_known_by_its_number() -> None:
    """In a sandbox /proc shows no process that may not be looked into."""
    assert procfs.runs(os.getpid(), procfs.process_start(os.getpid()) or 0)
    assert not procfs.runs(os.getpid(), 1)
    assert not procfs.runs(2**22 + 1, 1)  # above the kernel's highest number
