"""A file that somebody replaces or overwrites under the daemon, and what the next start finds."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from premblyd.engines.sqlite import opening
from premblyd.engines.sqlite.copies import BadCopyError, opened, put_in
from premblyd.engines.sqlite.engine import CHECKPOINT_AFTER
from premblyd.engines.sqlite.files import hold
from premblyd.engines.sqlite.guards import FILE_OVERWRITTEN, FILE_REPLACED
from tests.support.logs import Lines
from tests.support.store import Store, reason

COUNT = CHECKPOINT_AFTER + 5  # one checkpoint


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def fill(store: Store, count: int, word: str) -> list[bytes]:
    """Store so many webhooks, one after the other, and return their bodies."""
    return [add(store, b"%d %b" % (number, word.encode())) for number in range(count)]


def add(store: Store, body: bytes) -> bytes:
    store.add("crm", body=body + b" " * 2000)
    return body


def bodies(path: Path) -> list[bytes]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = connection.execute("SELECT body FROM event ORDER BY id").fetchall()
        return [body.rstrip() for (body,) in found]


def by_vacuum(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))


def by_backup(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(copy)) as other:
        connection.backup(other)


def of_another_record(path: Path, copy: Path) -> None:
    opening.prepare(copy)
    with asyncio.Runner() as runner:
        store = Store(copy, runner.get_loop())
        for number in range(5):
            add(store, b"other %d" % number)
        store.close()


COPIES = pytest.mark.parametrize("make", [by_vacuum, by_backup, of_another_record])


def next_start(path: Path, runner: asyncio.Runner) -> list[bytes]:
    """Start on the file, store one more, stop, and return what is there."""
    with hold(path):
        opening.prepare(path)
        store = Store(path, runner.get_loop())
        add(store, b"after the restart")
        store.close()
    return bodies(path)


@COPIES
@pytest.mark.parametrize("is_killed", [False, True])
def test_after_a_restart_another_file_is_as_it_was_put_there(
    path: Path,
    tmp_path: Path,
    runner: asyncio.Runner,
    lines: Lines,
    make: Callable[[Path, Path], None],
    is_killed: bool,
) -> None:
    """What had been stored is kept, too, although the old file has no name any more."""
    store = Store(path, runner.get_loop())
    stored = fill(store, COUNT, "before")
    make(path, tmp_path / "other.db")
    stored += fill(store, COUNT, "after")
    expected = bodies(tmp_path / "other.db")
    (tmp_path / "other.db").rename(path)
    if is_killed:  # before anything was noticed
        crashed = copied(path, tmp_path / "crashed")
        store.close()
        path = crashed
    else:
        assert [reason(store), reason(store)] == [FILE_REPLACED] * 2
        store.close()
        (line,) = [line for line in lines if line["event"] == "store.file_replaced"]
        assert bodies(Path(line["kept"]) / path.name) == stored
    assert next_start(path, runner) == [*expected, b"after the restart"]


def copied(path: Path, folder: Path) -> Path:
    """Return a copy of the file with all beside it: what a killed daemon leaves."""
    folder.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        if file.is_file():
            shutil.copy(file, folder)
    return folder / path.name


def test_a_removed_file_is_kept_and_the_restart_begins_a_new_one(
    path: Path, runner: asyncio.Runner, lines: Lines
) -> None:
    store = Store(path, runner.get_loop())
    stored = fill(store, 3, "before")
    path.unlink()
    assert reason(store) == FILE_REPLACED
    store.close()
    (line,) = [line for line in lines if line["event"] == "store.file_replaced"]
    assert bodies(Path(line["kept"]) / path.name) == stored
    assert next_start(path, runner) == [b"after the restart"]


def test_a_file_that_was_moved_away_is_whole_there_and_goes_on_when_it_is_back(
    path: Path, tmp_path: Path, runner: asyncio.Runner, lines: Lines
) -> None:
    store = Store(path, runner.get_loop())
    stored = fill(store, 3, "before")
    path.rename(tmp_path / "away.db")
    assert reason(store) == FILE_REPLACED
    (line,) = [line for line in lines if line["event"] == "store.file_replaced"]
    assert line["kept"] == str(tmp_path / "away.db")
    shutil.copy(tmp_path / "away.db", tmp_path / "copy.db")
    assert bodies(tmp_path / "copy.db") == stored
    (tmp_path / "away.db").rename(path)
    stored += fill(store, 3, "later")
    store.close()
    assert bodies(path) == stored


@COPIES
@pytest.mark.parametrize("after", [0, 1, COUNT])
def test_a_file_that_is_overwritten_in_place_is_noticed_and_no_more_is_taken(
    path: Path,
    tmp_path: Path,
    runner: asyncio.Runner,
    make: Callable[[Path, Path], None],
    after: int,
) -> None:
    """Then what is there is as it was put there: the log is not brought into it, at no stop."""
    store = Store(path, runner.get_loop())
    stored = fill(store, COUNT + 1, "before")
    make(path, tmp_path / "other.db")
    stored += fill(store, after, "after")
    shutil.copyfile(tmp_path / "other.db", path)
    if make is by_backup and after < COUNT:  # page for page the same but for what the log has
        stored.append(add(store, b"later"))
        store.close()
        assert bodies(path) == stored
        return
    assert [reason(store), reason(store)] == [FILE_OVERWRITTEN] * 2
    store.close()
    assert path.read_bytes() == (tmp_path / "other.db").read_bytes()
    assert not path.with_name(f"{path.name}-wal").exists()
    assert next_start(path, runner) == [*bodies(tmp_path / "other.db"), b"after the restart"]


@pytest.mark.parametrize(
    "spoil", [lambda path: os.truncate(path, 0), lambda path: path.write_text("x" * 9000)]
)
def test_a_file_that_is_no_database_any_more_is_noticed_and_a_copy_restored(
    path: Path, tmp_path: Path, runner: asyncio.Runner, spoil: Callable[[Path], object]
) -> None:
    """By the words of the message: stop, and put a copy in."""
    store = Store(path, runner.get_loop())
    stored = fill(store, COUNT, "before")
    by_vacuum(path, tmp_path / "copy.db")
    spoil(path)
    assert reason(store) == FILE_OVERWRITTEN
    store.close()
    with opened(tmp_path / "copy.db") as copy, hold(path):
        put_in(path, copy)
    assert next_start(path, runner) == [*stored, b"after the restart"]


def test_what_others_do_with_the_record_is_no_overwriting(
    path: Path, runner: asyncio.Runner
) -> None:
    store = Store(path, runner.get_loop())
    stored = fill(store, COUNT, "before")
    for statement in (
        "UPDATE event SET remote_ip = ''",
        "CREATE INDEX somebodys ON event (remote_ip)",
        "ANALYZE",
        "DROP INDEX somebodys",
    ):
        for more in (statement, "PRAGMA wal_checkpoint(truncate)", "PRAGMA wal_checkpoint"):
            with closing(sqlite3.connect(path, isolation_level=None)) as somebody:
                somebody.execute(more)
            stored.append(add(store, f"{statement} {more}".encode()))
    other = Store(path, runner.get_loop())  # as `reconcile --store` has one
    for round_ in "12":
        stored += fill(other, COUNT, f"by a command {round_}")
        stored += fill(store, COUNT, f"by the daemon {round_}")
    other.close()
    stored += fill(store, COUNT, "later")
    store.close()
    assert bodies(path) == stored


# Another program's checkpoint: it has the lock of that, byte 121 of the -shm file, and brings in
# a page that was the newest when it began.
CHECKPOINT = """
import fcntl, sys
path = sys.argv[1]
with open(f"{path}-shm", "r+b") as shm, open(path, "r+b") as file:
    fcntl.lockf(shm, fcntl.LOCK_EX, 1, 121)
    print(flush=True)
    file.write(sys.stdin.buffer.read())
"""


def test_a_checkpoint_that_another_program_began_earlier_is_no_overwriting(
    path: Path, tmp_path: Path, runner: asyncio.Runner
) -> None:
    """It must be another process: the lock is between processes."""
    store = Store(path, runner.get_loop())
    fill(store, 3, "before")
    copy = copied(path, tmp_path / "copy")
    assert bodies(copy)  # and brings its log into it
    other = [sys.executable, "-c", CHECKPOINT, str(path)]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        fill(store, COUNT, "meanwhile")  # has a checkpoint of the daemon's own in it
        process.communicate(copy.read_bytes()[:4096])
    add(store, b"after it")
    store.close()


def test_a_log_that_belongs_to_the_file_is_never_set_aside(
    path: Path, tmp_path: Path, runner: asyncio.Runner, lines: Lines
) -> None:
    """Whenever the daemon is killed."""
    store = Store(path, runner.get_loop())
    stored = []
    for number in range(2 * CHECKPOINT_AFTER):
        stored.append(add(store, b"%d" % number))
        if number % 7 == 0:
            crashed = copied(path, tmp_path / f"crash {number}")
            opening.prepare(crashed)
            assert bodies(crashed) == stored
    store.close()
    assert [line for line in lines if "aside" in str(line["event"])] == []


def test_a_log_of_another_file_is_not_applied_to_a_copy(
    path: Path, tmp_path: Path, runner: asyncio.Runner
) -> None:
    store = Store(path, runner.get_loop())
    fill(store, 3, "before")
    by_vacuum(path, tmp_path / "copy.db")
    fill(store, COUNT, "after")
    shutil.copy(path.with_name(f"{path.name}-wal"), tmp_path / "copy.db-wal")
    store.close()
    before = path.read_bytes()
    with opened(tmp_path / "copy.db") as copy, hold(path), pytest.raises(BadCopyError) as caught:
        put_in(path, copy)
    assert "belongs to another file" in str(caught.value)
    assert path.read_bytes() == before
