"""Opening the database: who may read it, what is promised, and which schema is accepted."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from peewee import OperationalError

from premblyd.ground.errors import (
    AlreadyRunningError,
    CannotStartError,
    LacksRightsError,
    PremblydError,
    SchemaError,
)
from premblyd.ground.errors import StoreUnavailableError as Unavailable
from premblyd.record.operating import Operator
from premblyd.store import schema
from premblyd.store.connections import connect_read_only
from premblyd.store.engine import Database, Transaction
from premblyd.store.sqlite import opening
from premblyd.store.sqlite.files import lock
from tests.support.forking import Forked
from tests.support.store import NOW_MS, Store, store_at
from tests.support.users import plain_user

Opener = Callable[[Path], object]
LOCKER = """
import os, sys, time
from pathlib import Path
from premblyd.store.sqlite.files import lock
lock(Path(sys.argv[1]))
if child := os.fork():
    print(child, flush=True)
time.sleep(60)
"""


@contextmanager
def another(*arguments: object) -> Iterator[tuple[Forked, int]]:
    """Run a process that has the lock, and a child; yield it and the child's number."""
    with Forked(arguments, before=LOCKER, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line
            yield process, int(line)
        finally:
            process.kill()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@contextmanager
def umask(mask: int) -> Iterator[int]:
    yield (before := os.umask(mask))
    os.umask(before)


def test_nobody_but_the_owner_and_the_group_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "lib" / "premblyd.db"
    path.parent.mkdir(0o750)
    with umask(0):
        assert opening.prepare(path)
        os.close(lock(path))
        with store_at(path) as store:
            store.add("crm")
            found = {file.name: mode(file) for file in path.parent.iterdir()}
    names = [f"premblyd.db{end}" for end in ("", "-wal", "-shm")]
    assert found == dict.fromkeys(names, 0o640) | {"premblyd.db.lock": 0o600}
    assert mode(path.parent) == 0o750


@pytest.mark.parametrize(("given", "then"), [(0o666, 0o640), (0o600, 0o600), (0o705, 0o600)])
def test_a_wider_mode_is_taken_away_and_a_narrower_one_stays(
    path: Path, given: int, then: int
) -> None:
    path.chmod(given)
    before = path.read_bytes()
    assert not opening.prepare(path)
    assert mode(path) == then
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


OPENERS: list[Opener] = [opening.prepare, opening.connect_read_only, opening.connect_operator]


@pytest.mark.parametrize("opener", [*OPENERS, opening.require_usable])
def test_the_schema_of_another_build_is_refused_and_left(path: Path, opener: Opener) -> None:
    with closing(opening.connect(path)) as other:
        other.execute_sql("UPDATE record SET schema_digest = 'other'")
    before = path.read_bytes()
    with pytest.raises(SchemaError, match="made by another build of premblyd") as caught:
        opener(path)
    assert caught.value.exit_code == 78
    assert path.read_bytes() == before


def test_a_schema_that_can_not_be_made_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "in_sqlite", lambda part: ["DROP TABLE missing"])
        with pytest.raises(Unavailable, match="no such table: missing"):
            opening.prepare(tmp_path / "p.db")
    assert opening.prepare(tmp_path / "p.db")


@pytest.mark.parametrize("opener", OPENERS[1:])
def test_commands_do_not_make_a_database(tmp_path: Path, opener: Opener) -> None:
    with pytest.raises(PremblydError, match=r"There is no database at .*premblyd serve"):
        opener(tmp_path / "p.db")
    with pytest.raises(OperationalError, match="unable to open database file"):
        opening.connect(tmp_path / "p.db").connect()
    with pytest.raises(Unavailable, match=r"new/p\.db: No such file or directory"):
        opening.prepare(tmp_path / "new" / "p.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opener", OPENERS)
def test_a_file_that_is_no_database_is_refused_and_left(tmp_path: Path, opener: Opener) -> None:
    path = tmp_path / "p.db"
    path.write_bytes(b"a letter to my aunt" * 100)
    with pytest.raises((CannotStartError, Unavailable), match=r"no SQLite|not a database"):
        opener(path)
    assert path.read_bytes() == b"a letter to my aunt" * 100


@pytest.mark.process
@pytest.mark.parametrize("through_link", [False, True])
def test_one_daemon_has_the_lock_until_it_ends_though_its_child_lives_on(
    path: Path, tmp_path: Path, through_link: bool
) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    own = link if through_link else path
    with another(path) as (daemon, child):
        with pytest.raises(AlreadyRunningError, match="Another premblyd uses") as caught:
            lock(own)
        assert caught.value.exit_code == 75
        daemon.kill()
        daemon.wait()
        try:
            mine = lock(own)
        finally:
            os.kill(child, signal.SIGKILL)
    assert not os.get_inheritable(mine)  # a hook that outlives the daemon must not keep it
    with pytest.raises(AssertionError), another(path):
        pass
    os.close(mine)
    os.close(lock(path))


def test_a_database_with_a_second_name_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "second.db").hardlink_to(path)
    for name in (path, tmp_path / "second.db"):
        with pytest.raises(CannotStartError, match="second name"):
            lock(name)
    (tmp_path / "second.db").unlink()
    os.close(lock(path))


def references(reader: Database) -> list[str]:
    with closing(reader):
        return [row[0] for row in reader.execute_sql("SELECT reference FROM event ORDER BY id")]


def test_a_reader_follows_the_daemon_and_cannot_write(store: Store) -> None:
    reader = opening.connect_read_only(store.path)
    for number in (1, 2):
        store.add("crm", body=b"%d" % number, reference=f"r{number}")
        assert reader.execute_sql("SELECT count(*) FROM event").fetchone() == (number,)
    for sql in ("DELETE FROM event", "CREATE TABLE t (id)", "PRAGMA user_version = 1"):
        with pytest.raises(OperationalError, match="readonly"):
            reader.execute_sql(sql)
    store.close()
    for after in (reader, opening.connect_read_only(store.path)):
        assert references(after) == ["r1", "r2"]


@contextmanager
def member_of_the_group(folder: Path) -> Iterator[None]:
    """Be somebody who may read what is in `folder` and may not write there."""
    owned = [] if os.geteuid() == 0 else [*folder.iterdir(), folder]
    for path in owned:
        path.chmod(mode(path) & 0o550)
    try:
        with plain_user():
            yield
    finally:
        for path in reversed(owned):
            path.chmod(mode(path) | 0o200)


@pytest.fixture
def opened() -> Iterator[Path]:
    """A database in a folder that everyone may enter."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        Path(root, "lib").mkdir(0o750)
        yield Path(root, "lib", "premblyd.db")


def test_a_member_of_the_group_reads_while_the_daemon_runs_and_after(opened: Path) -> None:
    opening.prepare(opened)
    with store_at(opened) as store:
        store.add("crm")
        with member_of_the_group(opened.parent):
            assert references(opening.connect_read_only(opened)) == ["ref-1"]
            with pytest.raises(PremblydError, match="You may not write"):
                opening.connect_operator(opened)
    with member_of_the_group(opened.parent):
        assert references(opening.connect_read_only(opened)) == ["ref-1"]
    assert references(opening.connect_read_only(opened)) == ["ref-1"], "the owner"
    with member_of_the_group(opened.parent):
        assert references(opening.connect_read_only(opened)) == ["ref-1"]


def test_after_a_kill_a_member_of_the_group_reads_all_or_is_told_why_not(opened: Path) -> None:
    """Never an old state: what came last is in the log alone. Also by a link."""
    crashed = opened.parent.with_name("crashed")
    crashed.mkdir()
    link = opened.parent.with_name("link.db")
    link.symlink_to(crashed / opened.name)
    opening.prepare(opened)
    with store_at(opened) as store:
        store.add("crm")
        for file in opened.parent.iterdir():
            shutil.copy(file, crashed)
    with member_of_the_group(crashed):
        assert references(opening.connect_read_only(link)) == ["ref-1"]
    (crashed / f"{opened.name}-shm").unlink()
    with member_of_the_group(crashed), pytest.raises(LacksRightsError, match="was not closed"):
        opening.connect_read_only(link)
    assert references(opening.connect_read_only(link)) == ["ref-1"]


def test_a_full_disk_is_called_that_whatever_hides_it(store: Store) -> None:
    with closing(opening.connect_operator(store.path)) as writing:
        (pages,) = writing.execute_sql("PRAGMA page_count").fetchone()
        writing.execute_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Unavailable, match="the disk is full; free space"):
            writing.transact(Operator(actor="ada" * 100_000).reveal(1, NOW_MS))


def test_what_a_command_has_read_nobody_changes_before_it_writes(path: Path) -> None:
    """Else a daemon's commit between the two would fail the command, and be told as a lock."""

    def look(transaction: Transaction) -> bool:
        transaction.connection.execute("SELECT count(*) FROM event").fetchone()
        with (
            closing(sqlite3.connect(path, timeout=0)) as daemon,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            daemon.execute("DELETE FROM event")
        return True

    with closing(opening.connect_operator(path)) as writing:
        assert writing.transact(look)


@pytest.mark.process
def test_who_opens_it_again_leaves_this_process_its_locks(store: Store) -> None:
    """Who opens the file itself and closes it ends them: then another program that closes the
    database takes itself for the last, and deletes the log under the daemon."""
    store.add("crm")
    connect_read_only(store.place).close()
    other = f"import sqlite3; sqlite3.connect({str(store.path)!r}).execute('SELECT id FROM event')"
    subprocess.run([sys.executable, "-c", other], check=True)
    assert Path(f"{store.path}-wal").exists()
    store.add("crm", body=b"{}")
    assert len(store.bodies()) == 2
