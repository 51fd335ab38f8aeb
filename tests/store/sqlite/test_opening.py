"""Opening the database: who may read it, what is promised, and which schema is accepted."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from peewee import OperationalError

from premblyd.engines.engine import Database, Transaction
from premblyd.engines.sqlite import files, opening
from premblyd.engines.sqlite.files import _BYTE, hold, lock
from premblyd.errors import (
    AlreadyRunningError,
    CannotStartError,
    LacksRightsError,
    PremblydError,
    SchemaError,
    TryAgainError,
)
from premblyd.errors import StoreUnavailableError as Unavailable
from premblyd.model import history
from premblyd.record.operating import Operator
from tests.support.database import rows
from tests.support.forking import Forked
from tests.support.store import NOW_MS, Store
from tests.support.users import plain_user

Opener = Callable[[Path], object]
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
SEQUENCE = "sqlite_sequence"  # SQLite's own
COLUMNS = "SELECT name FROM pragma_table_info(?)"
APPLIED = "SELECT name FROM schema_migration ORDER BY id"
KNOWN = sorted(file.stem for file in history.MIGRATIONS.glob("0*.py"))
AS_ROWS = [(name,) for name in KNOWN]
LOCKER = """
import os, sys, time
from pathlib import Path
from premblyd.engines.sqlite.files import _BYTE, hold, lock
lock(Path(sys.argv[1]))
child = os.fork() if "fork" in sys.argv else 1
if child:
    print(child, flush=True)
time.sleep(60)
"""
HOLDER = """
import os, sys, time
from pathlib import Path
from premblyd.engines.sqlite.files import hold
with hold(Path(sys.argv[1])):
    child = os.fork() if "fork" in sys.argv else 1
    if child:
        print(child, flush=True)
    time.sleep(60)
"""
READ_LOCKER = """
import fcntl, sys, time
file = open(sys.argv[1], "rb")
fcntl.lockf(file, fcntl.LOCK_SH, 1, int(sys.argv[2]))
print("locked", flush=True)
time.sleep(60)
"""
OLDER = """
import fcntl, sys, time
file = open(sys.argv[1] + ".lock", sys.argv[2])
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


@contextmanager
def another(script: str, *arguments: object) -> Iterator[tuple[Forked, int]]:
    """Run a process that says when it is ready; yield it and the number it said, if any."""
    with Forked(arguments, before=script, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            assert line
            yield process, int(line) if line.isdigit() else 0
        finally:
            process.kill()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@contextmanager
def umask(mask: int) -> Iterator[int]:
    yield (before := os.umask(mask))
    os.umask(before)


def next_version(monkeypatch: pytest.MonkeyPatch, folder: Path, up: str) -> None:
    """Make this program one that knows another migration, which runs `up`."""
    shutil.copytree(history.MIGRATIONS, folder)
    (folder / "0098_more.py").write_text(f"def up(migrator, db):\n    {up}\n")
    monkeypatch.setattr(history, "MIGRATIONS", folder)


def test_nobody_but_the_owner_and_the_group_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "lib" / "premblyd.db"
    path.parent.mkdir(0o750)
    with umask(0), asyncio.Runner() as runner:
        assert opening.prepare(path) == KNOWN
        os.close(lock(path))
        store = Store(path, runner.get_loop())
        store.add("crm")
        assert {file.name: oct(mode(file)) for file in path.parent.iterdir()} == {
            "premblyd.db": oct(0o640),
            "premblyd.db-wal": oct(0o640),
            "premblyd.db-shm": oct(0o640),
            "premblyd.db.lock": oct(0o600),
        }
        assert mode(path.parent) == 0o750
        store.close()


@pytest.mark.parametrize(("given", "then"), [(0o666, 0o640), (0o600, 0o600), (0o705, 0o600)])
def test_a_wider_mode_is_taken_away_and_a_narrower_one_stays(
    path: Path, given: int, then: int
) -> None:
    path.chmod(given)
    assert opening.prepare(path) == []
    assert mode(path) == then


def test_preparing_again_changes_nothing_and_copies_nothing(path: Path) -> None:
    before = path.read_bytes()
    assert opening.prepare(path) == []
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_existing_file_is_copied_before_it_is_migrated(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add("crm")  # is in the WAL alone
    copy = store.path.with_name("premblyd.db.before-0098_more")
    copy.write_text("of an earlier try")
    next_version(monkeypatch, tmp_path / "next", 'db.execute_sql("CREATE TABLE more (id)")')
    with umask(0):
        assert opening.prepare(store.path) == ["0098_more"]
    assert store.rows(APPLIED) == [*AS_ROWS, ("0098_more",)]
    assert ("more",) in store.rows(TABLES)
    assert rows(copy, APPLIED) == AS_ROWS
    assert rows(copy, "SELECT reference FROM event") == [("ref-1",)]
    assert ("more",) not in rows(copy, TABLES)
    assert mode(copy) == 0o640


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = 'db.execute_sql("CREATE TABLE more (id)"); db.execute_sql("DROP TABLE missing")'
    next_version(monkeypatch, tmp_path / "next", up)
    for _ in range(2):
        with pytest.raises(Unavailable, match="no such table: missing"):
            opening.prepare(path)
        assert ("more",) not in rows(path, TABLES)
        assert rows(path, APPLIED) == AS_ROWS


def test_the_first_migration_too_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "next"
    folder.mkdir()
    up = 'db.execute_sql("CREATE TABLE event (id)"); db.execute_sql("DROP TABLE missing")'
    (folder / "0001_initial.py").write_text(f"def up(migrator, db):\n    {up}\n")
    with monkeypatch.context() as patched:
        patched.setattr(history, "MIGRATIONS", folder)
        with pytest.raises(Unavailable):
            opening.prepare(tmp_path / "p.db")
    assert opening.prepare(tmp_path / "p.db") == KNOWN


OPENERS: list[Opener] = [opening.prepare, opening.connect_read_only, opening.connect_operator]


@pytest.mark.parametrize("opener", OPENERS)
def test_a_newer_schema_is_refused_with_the_remedy(path: Path, opener: Opener) -> None:
    with closing(opening.connect(path)) as newer:
        newer.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('0099_later', 0)")
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=r"newer premblyd.*0099_later") as caught:
        opener(path)
    assert caught.value.exit_code == 78
    assert f"run `premblyd restore {path}.before-0099_later`." in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("opener", OPENERS[1:])
def test_commands_refuse_an_older_schema_and_leave_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opener: Opener
) -> None:
    next_version(monkeypatch, tmp_path / "next", "pass")
    with pytest.raises(SchemaError, match=r"older than this premblyd\. Start the daemon once"):
        opener(path)
    assert rows(path, APPLIED) == AS_ROWS


@pytest.mark.parametrize("opener", OPENERS[1:])
def test_commands_do_not_make_a_database(tmp_path: Path, opener: Opener) -> None:
    with pytest.raises(PremblydError, match=r"There is no database at .*premblyd serve"):
        opener(tmp_path / "p.db")
    with pytest.raises(OperationalError, match="unable to open database file"):
        opening.connect(tmp_path / "p.db").connect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opener", OPENERS)
def test_a_file_that_is_no_database_is_refused_and_left(tmp_path: Path, opener: Opener) -> None:
    path = tmp_path / "p.db"
    path.write_bytes(b"a letter to my aunt" * 100)
    with pytest.raises(Unavailable, match="file is not a database"):
        opener(path)
    assert path.read_bytes() == b"a letter to my aunt" * 100


def test_no_folder_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, why in (("file", "Not a directory"), ("new", "No such file or directory")):
        with pytest.raises(Unavailable, match=rf"{folder}/p\.db: {why}"):
            opening.prepare(tmp_path / folder / "p.db")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("through_link", [False, True])
def test_one_daemon_has_the_lock_until_it_ends(
    path: Path, tmp_path: Path, through_link: bool
) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    own = link if through_link else path
    with another(LOCKER, path):
        with pytest.raises(AlreadyRunningError, match="Another premblyd uses") as caught:
            lock(own)
        assert caught.value.exit_code == 75
    mine = lock(own)
    assert not os.get_inheritable(mine)  # a hook that outlives the daemon must not keep it
    with pytest.raises(AssertionError), another(LOCKER, path):
        pass
    os.close(mine)
    os.close(lock(path))


@pytest.mark.parametrize("removed", [False, True])
def test_a_lock_file_that_somebody_removes_lets_no_other_daemon_in(
    path: Path, removed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process, because a lock does not stop the one that has it."""
    monkeypatch.setattr(files, "KILLED_S", 0.1)
    with another(HOLDER, path):
        if removed:
            path.with_name(f"{path.name}.lock").unlink()
        with pytest.raises(AlreadyRunningError, match="Another premblyd uses"):
            hold(path).__enter__()
    with hold(path):
        pass


def test_who_only_reads_and_keeps_the_daemon_out_is_named(path: Path) -> None:
    with (
        another(READ_LOCKER, path, _BYTE) as (other, _),
        pytest.raises(TryAgainError, match=f"Process {other.pid} has a lock on {path}"),
    ):
        hold(path).__enter__()
    with hold(path):
        pass


def test_a_child_that_outlives_the_daemon_does_not_have_its_lock(path: Path) -> None:
    with another(LOCKER, path, "fork") as (daemon, child):
        daemon.kill()
        daemon.wait()
        try:
            os.close(lock(path))
        finally:
            os.kill(child, signal.SIGKILL)


def test_what_a_killed_daemon_was_starting_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the daemon's files open until it has become the hook."""
    monkeypatch.setattr(files, "KILLED_S", 30)
    with another(HOLDER, path, "fork") as (daemon, child):
        daemon.kill()
        daemon.wait()
        becoming = threading.Timer(0.2, os.kill, (child, signal.SIGKILL))
        becoming.start()
        try:
            with hold(path):
                pass
        finally:
            becoming.join()


def test_an_older_version_that_runs_is_noticed_and_its_lock_file_narrowed(path: Path) -> None:
    file = path.with_name(f"{path.name}.lock")
    file.touch(mode=0o640)
    with another(OLDER, path, "r+"), pytest.raises(AlreadyRunningError):
        lock(path)
    os.close(lock(path))
    assert mode(file) == 0o600


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
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everyone may enter, with a program of which everyone may read the migrations:
    the checkout may lie in a closed folder of root's."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        shutil.copytree(history.MIGRATIONS, Path(root, "migrations"))
        monkeypatch.setattr(history, "MIGRATIONS", Path(root, "migrations"))
        Path(root, "lib").mkdir(0o750)
        yield Path(root, "lib", "premblyd.db")


@pytest.mark.parametrize("owner_has_read", [False, True])
def test_a_member_of_the_group_reads_while_the_daemon_runs_and_after(
    opened: Path, owner_has_read: bool
) -> None:
    opening.prepare(opened)
    with asyncio.Runner() as runner:
        store = Store(opened, runner.get_loop())
        store.add("crm")
        with member_of_the_group(opened.parent):
            assert references(opening.connect_read_only(opened)) == ["ref-1"]
            with pytest.raises(PremblydError, match="You may not write"):
                opening.connect_operator(opened)
        store.close()
    if owner_has_read:
        assert references(opening.connect_read_only(opened)) == ["ref-1"]
    with member_of_the_group(opened.parent):
        assert references(opening.connect_read_only(opened)) == ["ref-1"]


@pytest.mark.parametrize("through_link", [False, True])
def test_after_a_kill_a_member_of_the_group_reads_all_or_is_told_why_not(
    opened: Path, through_link: bool
) -> None:
    """Never an old state: what came last is in the log alone."""
    crashed = opened.parent.with_name("crashed")
    crashed.mkdir()
    path = opened.parent.with_name("link.db") if through_link else crashed / opened.name
    if through_link:
        path.symlink_to(crashed / opened.name)
    opening.prepare(opened)
    with asyncio.Runner() as runner:
        store = Store(opened, runner.get_loop())
        store.add("crm")
        for file in opened.parent.iterdir():
            shutil.copy(file, crashed)
        store.close()
    with member_of_the_group(crashed):
        assert references(opening.connect_read_only(path)) == ["ref-1"]
    (crashed / f"{opened.name}-shm").unlink()
    with member_of_the_group(crashed), pytest.raises(LacksRightsError, match="was not closed"):
        opening.connect_read_only(path)
    assert references(opening.connect_read_only(path)) == ["ref-1"]


def test_a_program_that_cannot_be_read_is_no_newer_database(opened: Path) -> None:
    opening.prepare(opened)
    history.MIGRATIONS.chmod(0)
    try:
        with (
            member_of_the_group(opened.parent),
            pytest.raises(CannotStartError, match="may not read its own program"),
        ):
            opening.connect_read_only(opened)
    finally:
        history.MIGRATIONS.chmod(0o755)


def test_a_full_disk_is_called_that_whatever_hides_it(store: Store) -> None:
    with closing(opening.connect_operator(store.path)) as writing:
        (pages,) = writing.execute_sql("PRAGMA page_count").fetchone()
        writing.execute_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Unavailable, match="the disk is full; make room"):
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


def test_a_copy_that_fails_leaves_nothing_that_looks_like_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add("crm")
    next_version(monkeypatch, tmp_path / "next", 'db.execute_sql("CREATE TABLE more (id)")')

    class FullDisk(sqlite3.Connection):
        def backup(self, *_: Any, **__: Any) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    real = sqlite3.connect
    with monkeypatch.context() as patched:
        patched.setattr(
            sqlite3, "connect", lambda *given, **more: real(*given, factory=FullDisk, **more)
        )
        with pytest.raises(Unavailable, match="the disk is full"):
            opening.prepare(store.path)
    assert not list(store.path.parent.glob("*.before-*"))
    assert store.rows(APPLIED) == AS_ROWS
