"""A copy in the place of the database: what is refused, and that nothing is lost on the way."""

import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from premblyd.engines.sqlite import opening
from premblyd.engines.sqlite.copies import BadCopyError, Restored, opened, put_in
from premblyd.engines.sqlite.engine import SqliteBackend
from premblyd.engines.sqlite.files import hold
from premblyd.errors import AlreadyRunningError, CannotStartError
from tests.support.store import Store

STEPS = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.chown")
KILLED = 9


def bodies(path: Path) -> list[bytes]:
    with closing(sqlite3.connect(path)) as connection:
        return [body for (body,) in connection.execute("SELECT body FROM event ORDER BY id")]


@pytest.fixture
def crashed(store: Store, tmp_path: Path) -> Path:
    """A database as a killed daemon leaves it: the last event is in the log alone."""
    store.add("crm", body=b"copied")
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
        connection.execute("PRAGMA wal_checkpoint(truncate)")
    store.add("crm", body=b"after the copy")
    folder = tmp_path / "lib"
    folder.mkdir()
    for file in store.path.parent.glob(f"{store.path.name}*"):
        shutil.copy(file, folder)
    return folder / store.path.name


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


def restore(database: Path, copy: Path) -> Restored:
    with opened(copy) as source, hold(database):
        return put_in(database, source)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder; what an attempt to lock leaves is none of them."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_what_was_there_is_whole_beside_the_copy_that_was_put_in(crashed: Path, copy: Path) -> None:
    before = contents(crashed.parent)
    restored = restore(crashed, copy)
    assert (restored.events, restored.is_older) == (1, False)
    assert bodies(crashed) == [b"copied"]
    assert restored.aside is not None
    assert contents(restored.aside) == before
    assert bodies(restored.aside / crashed.name) == [b"copied", b"after the copy"]


def test_the_copy_stays_as_it_is_with_its_log(crashed: Path, store: Store, tmp_path: Path) -> None:
    """Such as what was put aside: the folder of an earlier run."""
    whole = tmp_path / "whole"
    shutil.copytree(crashed.parent, whole)
    before = contents(whole)
    restore(crashed, whole / crashed.name)
    assert bodies(crashed) == [b"copied", b"after the copy"]
    assert contents(whole) == before


def damaged(copy: Path) -> None:
    with copy.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xff" * 4096 * 3)


def foreign(copy: Path) -> None:
    copy.unlink()
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("CREATE TABLE event (id INTEGER)")


def newer(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("INSERT INTO schema_migration VALUES (99, '0099_next', 'now')")


def half_moved(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("CREATE TABLE unfinished_move (name)")


def unfinished(copy: Path) -> None:
    copy.with_name(f"{copy.name}-journal").write_bytes(b"something")


def missing(copy: Path) -> None:
    copy.unlink()


def a_pipe(copy: Path) -> None:
    copy.unlink()
    os.mkfifo(copy)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda copy: copy.write_text("no database " * 1000), "is no SQLite database"),
        (damaged, "is damaged|is not good"),
        (foreign, "is no record of premblyd's"),
        (newer, "was written by a newer premblyd"),
        (half_moved, "only a part of what `premblyd move` brings"),
        (unfinished, "was not finished"),
        (missing, "There is no file"),
        (a_pipe, "is no file|is no SQLite database"),
        (lambda copy: (copy.unlink(), copy.mkdir()), "is no file"),
    ],
)
def test_a_bad_copy_changes_nothing(crashed: Path, copy: Path, spoil: object, said: str) -> None:
    assert callable(spoil)
    spoil(copy)
    before = contents(crashed.parent)
    with pytest.raises(BadCopyError, match=said) as caught:
        restore(crashed, copy)
    assert caught.value.exit_code == 1
    assert contents(crashed.parent) == before


def test_the_database_is_no_copy_of_itself(crashed: Path, tmp_path: Path) -> None:
    """Under another name either; and no link is followed."""
    other, link = crashed.with_name("other.db"), tmp_path / "link.db"
    other.hardlink_to(crashed)
    link.symlink_to(crashed)
    before = contents(crashed.parent)
    with opened(other) as source, pytest.raises(BadCopyError, match="is the database itself"):
        put_in(crashed, source)
    with pytest.raises(BadCopyError, match="is a link"), opened(link):
        pass
    assert contents(crashed.parent) == before


def test_a_database_in_use_is_neither_replaced_nor_a_copy(crashed: Path, copy: Path) -> None:
    before = contents(crashed.parent)
    with hold(crashed):
        for database, of in ((crashed, copy), (copy, crashed)):
            with pytest.raises(AlreadyRunningError) as caught:
                restore(database, of)
            assert caught.value.exit_code == 75
    assert contents(crashed.parent) == before


def test_those_who_might_read_it_may_again(crashed: Path, copy: Path) -> None:
    crashed.chmod(0o600)
    copy.chmod(0o444)
    restore(crashed, copy)
    assert crashed.stat().st_mode & 0o777 == 0o600
    crashed.unlink()
    restore(crashed, copy)
    assert crashed.stat().st_mode & 0o777 == 0o640


def steps_until_killed(database: Path, copy: Path, number: int) -> int:
    """Restore in a process that is killed before it takes its step of this number. Return its exit
    status: 0 when it has fewer steps."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = number

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in STEPS and str(database.parent) in str(arguments):
            left -= 1
            if left == 0:
                os._exit(KILLED)

    try:
        sys.addaudithook(count)
        restore(database, copy)
    except BaseException:  # noqa: BLE001
        os._exit(1)
    os._exit(0)


def test_killed_at_any_step_it_goes_on_when_it_is_run_again(
    crashed: Path, copy: Path, tmp_path: Path
) -> None:
    """Nothing is lost or parted, and no daemon starts on half of it. The process must be another
    one: it is killed."""
    before = contents(crashed.parent)
    whole = set(before.values())
    for number in range(1, 100):
        folder = tmp_path / f"step {number}"
        shutil.copytree(crashed.parent, folder)
        database = folder / crashed.name
        status = steps_until_killed(database, copy, number)
        assert status in (0, KILLED)
        assert whole <= set(contents(folder).values())
        if database.exists():
            assert bodies_without_change(database, tmp_path) in (
                [b"copied", b"after the copy"],
                [b"copied"],
            )
        else:
            with (
                pytest.raises(CannotStartError, match="interrupted"),
                SqliteBackend(database).hold(),
            ):
                pass
        restore(database, copy)
        assert bodies(database) == [b"copied"]
        assert not (folder / f"{database.name}.restoring").exists()
        asides = list(folder.glob(f"{database.name}.replaced-*"))
        assert before in [contents(aside) for aside in asides]
        if status == 0:
            assert number > 8
            return
    pytest.fail("it has no end")


def bodies_without_change(database: Path, tmp_path: Path) -> list[bytes]:
    """Return what a daemon would find."""
    folder = tmp_path / "looked at"
    shutil.copytree(database.parent, folder)
    try:
        return bodies(folder / database.name)
    finally:
        shutil.rmtree(folder)


def test_no_daemon_begins_an_empty_record_beside_a_log(crashed: Path, copy: Path) -> None:
    wal = crashed.with_name(f"{crashed.name}-wal")
    log = wal.read_bytes()
    for spoil in (crashed.unlink, crashed.touch):
        spoil()
        with pytest.raises(CannotStartError, match="holds a part of it"):
            SqliteBackend(crashed).hold().__enter__()
        assert wal.read_bytes() == log
    restored = restore(crashed, copy)
    assert restored.aside is not None
    assert (restored.aside / wal.name).read_bytes() == log
    with SqliteBackend(crashed).hold():
        opening.prepare(crashed)
    assert bodies(crashed) == [b"copied"]
