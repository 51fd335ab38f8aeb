"""`premblyd restore`: a copy in the place of the database, as an operator types it."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import premblyd
from premblyd.engines.sqlite.files import hold
from tests.support.commands import command, record, run
from tests.support.configuration import configuration
from tests.support.needs import needs_root
from tests.support.users import NOBODY, plain_user

pytestmark = pytest.mark.sqlite
ODD = 12345  # a user without a name


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return record(tmp_path / "record")


@pytest.fixture
def copy(config: Path, tmp_path: Path) -> Path:
    """A copy of the database, in which the last event is missing."""
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(config.with_name("premblyd.db"))) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("DELETE FROM event WHERE id = (SELECT max(id) FROM event)")
    return copy


def events(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM event").fetchone()
        assert isinstance(count, int)
        return count


def test_it_says_what_was_put_in_and_where_the_old_one_is(config: Path, copy: Path) -> None:
    database = config.with_name("premblyd.db")
    before = events(database)
    done = run("restore", copy, "--config", config)
    (aside,) = config.parent.glob("premblyd.db.replaced-*")
    assert (done.code, done.err) == (0, "")
    put_in, kept = done.out.splitlines()
    put, _, last = put_in.partition(", the last of ")
    assert put == f"Put {copy} in the place of {database}: {before - 1} events"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\.", last)
    assert kept == f"What was there is in {aside}. Nothing was deleted."
    assert (events(database), events(aside / "premblyd.db")) == (before - 1, before)
    assert run("events", "--config", config).code == 0


def test_a_folder_that_is_gone_is_told(config: Path, copy: Path) -> None:
    gone = config.parent / "gone"
    config.write_text(config.read_text().replace("premblyd.db", "gone/premblyd.db"))
    done = run("restore", copy, "--config", config)
    assert (done.code, done.out) == (1, "")
    assert f"There is no folder {gone} to put the database in: make it" in done.err


def test_a_copy_of_an_older_version_is_migrated_by_the_next_start(config: Path, copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("DELETE FROM schema_migration WHERE id > 1")
    done = run("restore", copy, "--config", config)
    assert "An older premblyd wrote it. The daemon migrates it when it starts.\n" in done.out
    assert done.code == 0


def test_the_exit_status_says_what_was_the_matter(config: Path, copy: Path, tmp_path: Path) -> None:
    database = config.with_name("premblyd.db")
    before = database.read_bytes()
    with hold(database):
        assert run("restore", copy, "--config", config).code == 75
    (tmp_path / "text").write_text("no copy")
    bad = run("restore", tmp_path / "text", "--config", config)
    assert (bad.code, bad.out, bad.err) == (1, "", f"{tmp_path}/text is no SQLite database.\n")
    assert run("restore", "--config", config).code == 2
    assert run("restore", copy, "--config", tmp_path / "missing.yaml").code == 78
    assert database.read_bytes() == before


def test_on_postgresql_it_refuses(copy: Path, tmp_path: Path) -> None:
    config = tmp_path / "premblyd.yaml"
    config.write_text(json.dumps(configuration(database="postgresql://premblyd@localhost/none")))
    done = run("restore", copy, "--config", config)
    assert (done.code, done.out) == (1, "")
    assert "`pg_restore` puts one back" in done.err


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder into which every user may look. (pytest's own are closed.)"""
    folder = Path(tempfile.mkdtemp(prefix="premblyd-restore-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_who_may_not_write_is_told_to_be_root(open_folder: Path, config: Path, copy: Path) -> None:
    shutil.copytree(config.parent, open_folder / "lib")
    shutil.copy(copy, open_folder)
    (open_folder / "copy.db").chmod(0o644)
    config = open_folder / "lib" / "premblyd.yaml"
    for path in (open_folder / "lib").iterdir():
        path.chmod(0o444)
    (open_folder / "lib").chmod(0o555)
    run("restore", "--help")
    with plain_user():
        done = run("restore", open_folder / "copy.db", "--config", config)
    (open_folder / "lib").chmod(0o755)
    assert (done.code, done.out) == (1, "")
    assert "With the rights it needs: sudo premblyd restore" in done.err


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
def test_no_link_is_followed(config: Path, copy: Path, tmp_path: Path, suffix: str) -> None:
    """Root would read what it leads to, and put it where the service's user may read it."""
    before = events(config.with_name("premblyd.db"))
    named = tmp_path / "named.db"
    if suffix:
        shutil.copyfile(copy, named)
    link = tmp_path / f"named.db{suffix}"
    link.symlink_to(copy)
    done = run("restore", named, "--config", config)
    assert (done.code, done.out) == (1, "")
    assert f"{link} is a link" in done.err
    assert events(config.with_name("premblyd.db")) == before


@needs_root
@pytest.mark.parametrize("owner", [NOBODY, ODD])
def test_root_leaves_nothing_that_the_service_cannot_use(
    open_folder: Path, config: Path, copy: Path, owner: int
) -> None:
    """It must be another process: it becomes the owner for good. The copy is root's alone."""
    folder = open_folder / "lib"
    shutil.copytree(config.parent, folder)
    for path in (folder, *folder.iterdir()):
        os.chown(path, owner, owner)
    database = folder / "premblyd.db"
    (open_folder / "copy.db").touch(mode=0o600)
    shutil.copyfile(copy, open_folder / "copy.db")
    # The program too must be where every user may look: a checkout of root's own is closed.
    package = Path(premblyd.__file__).parent
    shutil.copytree(package, open_folder / package.name)
    restore = command("restore", open_folder / "copy.db", "--config", folder / "premblyd.yaml")
    done = subprocess.run(restore, cwd=open_folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = [database, *folder.glob("premblyd.db.*"), *folder.glob("premblyd.db.*/*")]
    assert {(path.stat().st_uid, path.stat().st_gid != 0) for path in made} == {(owner, True)}
    assert events(database) == events(copy)
