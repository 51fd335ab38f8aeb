"""`premblyd check` tries what a start would open: it and `serve` say the same, and it changes
nothing."""

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import json_of, run, run_process
from tests.support.configuration import configuration
from tests.support.database import by_hand, prepared_file
from tests.support.users import plain_user

pytestmark = pytest.mark.sqlite  # of a server: tests/features/postgresql/test_cli_postgresql.py


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder into which every user may look. (pytest's own are closed.)"""
    folder = Path(tempfile.mkdtemp(prefix="premblyd-start-"))
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "premblyd.yaml"
    path.write_text(json.dumps(configuration(**changes)))
    path.chmod(0o640)
    return path


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return all that is in a folder, but for what SQLite makes beside a database to read it."""
    return {
        str(path): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(("-wal", "-shm"))
    }


def obstacle(config: Path) -> str:
    """Return why `check` says that the daemon can't start, which it says everywhere."""
    before = files(config.parent)
    done, quiet = run("check", "--config", config), run("check", "--quiet", "--config", config)
    shown = json.loads(run("check", "--json", "--config", config).out)
    assert (done.code, quiet.code, shown["ok"]) == (78, 78, False)
    assert files(config.parent) == before
    line: str
    [line] = [each for each in shown["warnings"] if each.startswith("the daemon can't start: ")]
    assert quiet.err == f"{line}\n"
    assert f"warning: {line}\n" in done.err
    return line.removeprefix("the daemon can't start: ")


def be_others(path: Path) -> None:
    shutil.copy(prepared_file(), path)
    by_hand(path, "UPDATE record SET schema_digest = 'other'")


@pytest.mark.process
def test_a_database_on_which_no_daemon_can_start_is_told_as_the_start_tells_it(
    tmp_path: Path,
) -> None:
    be_others(tmp_path / "other.db")
    (tmp_path / "text.db").write_text("a letter to my aunt")
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "lost.db-wal").write_text("x")
    (tmp_path / "locked.db.lock").mkdir()
    for url, reason in {
        "var/lib/p.db": f"There is no folder {tmp_path}/var/lib for the database.",
        "other.db": "other.db was made by another build of premblyd",
        "text.db": "or is no SQLite database.",
        "folder.db": f"{tmp_path}/folder.db is encrypted, or is",
        "lost.db": "lost.db is missing or empty",
        "locked.db": f"Can't use {tmp_path} for the",
    }.items():
        config = write(tmp_path, database=f"sqlite:///{url}")
        found = obstacle(config)
        assert reason in found
        started = run_process("serve", "--config", config)
        assert started.err.splitlines()[-1] == found
        assert started.code == (1 if "Is a directory" in found else 78)
    assert not (tmp_path / "var").exists(), "a start makes no folder"


@pytest.mark.parametrize("closed", [".", "p.db", "p.db-wal"])
def test_what_may_not_be_written_is_told(open_folder: Path, closed: str) -> None:
    config = write(open_folder, database="sqlite:///p.db")
    config.chmod(0o644)
    place, database = open_folder / closed, open_folder / "p.db"
    with ExitStack() as open_:
        if closed != ".":
            shutil.copy(prepared_file(), database)
            other = open_.enter_context(closing(sqlite3.connect(database, isolation_level=None)))
            other.execute("UPDATE record SET alive_at_ms = 1")  # so that there is a log
            database.chmod(0o666)
        open_folder.chmod(0o777)
        place.chmod(0o555)
        with plain_user():
            found = obstacle(config)
    assert found == f"Can't use {place} for the database: Permission denied"


@pytest.mark.process
def test_a_new_database_is_told(tmp_path: Path) -> None:
    config = write(tmp_path, database="sqlite:///premblid.db")
    new = f"There is no database at {tmp_path}/premblid.db: a new one would be made."
    shutil.copy(prepared_file(), tmp_path / "premblyd.db")
    before = files(tmp_path)
    shown = json_of(config, "check")
    assert (shown["ok"], shown["database"], shown["warnings"]) == (True, [new], [])
    assert files(tmp_path) == before
    assert json_of(write(tmp_path), "check")["database"] == []
