"""Commands by a user who may not do it: each says that it needs sudo."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import record, run
from tests.support.configuration import configuration
from tests.support.rows import for_each
from tests.support.users import plain_user

HINT = "With `sudo` you have the rights that it needs."


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder into which every user may look. (pytest's own are closed.)"""
    folder = Path(tempfile.mkdtemp(prefix="premblyd-rights-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def hint_for(config: Path, *arguments: object, **environ: Any) -> tuple[int, list[str]]:
    """Return the exit status of a command by a plain user, and what it said."""
    line = [str(one) for one in arguments]
    if not environ:
        line += ["--config", str(config)]
    run(*line, **environ)  # as root: what it imports is imported before the rights are gone
    with plain_user():
        done = run(*line, **environ)
    assert done.out == ""
    *said, hint = done.err.splitlines()
    assert hint == HINT
    return done.code, said


@for_each("command", ["check", "events --limit 3", "replay --dead"])
@for_each("is_named_by_variable", [False, True])  # which sudo drops
def test_a_configuration_that_may_not_be_read(
    folder: Path, command: str, is_named_by_variable: bool
) -> None:
    config = unreadable(folder / "premblyd.yaml", "[")
    environ = {"PREMBLYD_CONFIG": str(config)} if is_named_by_variable else {}
    code, said = hint_for(config, *command.split(), **environ)
    assert code == 78
    assert f"{config}:1:1: can't be read: Permission denied" in "\n".join(said)


def unreadable(path: Path, text: str) -> Path:
    """Write a file that the plain user may not read."""
    path.unlink(missing_ok=True)  # of another row: a plain user can't write it
    path.write_text(text)
    path.chmod(0 if os.geteuid() else 0o600)
    return path


def test_a_secret_that_may_not_be_read(folder: Path) -> None:
    config, key = folder / "premblyd.yaml", unreadable(folder / "key", "hush")
    config.write_text(json.dumps(configuration(endpoint={"keys": {"live": {"file": "key"}}})))
    code, (said,) = hint_for(config, "check")
    assert code == 78
    assert said.endswith(f"can't read the secret file {key}: Permission denied")


@pytest.mark.sqlite
@pytest.mark.parametrize("closed", ["data/premblyd.db", "data"])
def test_a_database_that_may_not_be_read(folder: Path, closed: str) -> None:
    config = folder / "premblyd.yaml"
    config.write_text(json.dumps(configuration(database="sqlite:///data/premblyd.db")))
    (folder / "data").mkdir()
    shutil.copy(record(folder / "record").with_name("premblyd.db"), folder / "data")
    mode = (folder / closed).stat().st_mode
    (folder / closed).chmod(0o600 if os.geteuid() == 0 and closed != "data" else 0)
    code, said = hint_for(config, "events", "--since", "1h")
    (folder / closed).chmod(mode)
    may = f"You may not read {folder}/data/premblyd.db. Members of its group may."
    assert (code, said) == (1, [may])


@pytest.mark.sqlite
@pytest.mark.parametrize("command", ["cancel --delivery 1", "show 1 --reveal"])
def test_a_database_that_may_not_be_written(folder: Path, command: str) -> None:
    config = record(folder)
    config.chmod(0o644)
    database = config.with_name("premblyd.db")
    database.chmod(0o444)
    folder.chmod(0o555)
    with plain_user():
        done = run(*command.split(), "--config", config)
    assert (done.code, done.out) == (1, "")
    assert done.err.removeprefix(
        "Nothing is shown, because your access could not be recorded. "
    ) == (f"You may not write {database}. Run this as root or as its owner.\n{HINT}\n")


def test_a_folder_in_which_init_may_not_write(folder: Path) -> None:
    folder.chmod(0o555)
    with plain_user():
        done = run("init", folder)
    said = f"Can't write {folder}/premblyd.yaml: Permission denied\n"
    assert done.err == f"{said}{HINT}\n"


def test_root_is_not_told_to_be_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = folder / "premblyd.yaml"
    config.write_text("[")
    config.chmod(0)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "sudo" not in run("check", "--config", config).err
