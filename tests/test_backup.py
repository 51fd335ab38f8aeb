"""`premblyd backup` and `premblyd restore DIR`, as an operator types them."""

import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pyrage
import pytest

from premblyd.backup import folder
from premblyd.backup.making import make
from premblyd.engines.besides import Copied
from premblyd.engines.connections import backend
from premblyd.engines.sqlite import pages
from tests.support.commands import Ran, record, run
from tests.support.database import rows
from tests.support.forking import Forked
from tests.support.rows import for_each

pytestmark = pytest.mark.sqlite
EVENTS = "SELECT id, key, body, headers, reference FROM event ORDER BY id"
NAME = re.compile(r"premblyd-\d{8}T\d{6}Z\.db")
IDENTITY = pyrage.x25519.Identity.generate()
RECIPIENT = str(IDENTITY.to_public())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return record(tmp_path / "record")


@pytest.fixture
def database(config: Path) -> Path:
    return config.with_name("premblyd.db")


@pytest.fixture
def to(tmp_path: Path) -> Path:
    made = tmp_path / "copies"
    made.mkdir(mode=0o700)
    return made


@for_each("is_there", (False, True))
def test_where_the_database_is_lost_it_says_that_erasures_are_not_known(
    config: Path, database: Path, to: Path, is_there: bool
) -> None:
    back_up(config, to)
    database.unlink()
    if is_there:
        database.touch()
    done = restore(config, to)
    assert done.code == 0
    assert "Who was erased or held since it was made is not known" in done.out
    assert "erase and hold them again." in done.out


@pytest.fixture(params=[True, False])
def each_sqlite(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SQLite with sqlite_dbpage, and one without, such as Debian 12's."""
    if not request.param:
        monkeypatch.setattr(pages, "can_clear", lambda _: False)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"# created: today\n# public key: {RECIPIENT}\n{IDENTITY}\n")
    return path


def seal(config: Path) -> None:
    """Let the configuration say to whom copies are sealed."""
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"backup": {"recipients": [RECIPIENT]}}))


def back_up(config: Path, to: Path, *more: object) -> Path:
    """Back up, and return the copy."""
    done = run("backup", to, *more, "--config", config)
    assert done.code == 0, done.err
    match = re.match(r"Copied the record to (\S+): ", done.out)
    assert match
    return Path(match[1])


def restore(config: Path, *words: object) -> Ran:
    return run("restore", *words, "--config", config)


def names(to: Path) -> list[str]:
    return sorted(path.name for path in to.iterdir())


def test_a_copy_is_the_whole_record_for_its_owner_alone(
    config: Path, database: Path, to: Path
) -> None:
    done = run("backup", to, "--config", config)
    [copy] = to.iterdir()
    assert done.code == 0
    assert re.fullmatch(rf"Copied the record to {copy}: [\d.]+ [KM]iB\.\n", done.out)
    assert done.err.startswith(f"warning: {copy} is in clear: whoever gets it reads all")
    assert NAME.fullmatch(copy.name)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    assert rows(copy, EVENTS) == rows(database, EVENTS)
    assert names(to) == [copy.name], "reading it makes no files"
    done = run("events", "--database", copy, "--json")
    assert len(json.loads(done.out)) == len(rows(database, EVENTS))


def test_that_there_is_one_is_on_record(config: Path, database: Path, to: Path) -> None:
    told = json_of_backup(config, to)
    [(at_ms, note)] = rows(
        database, "SELECT at_ms, note FROM operator_action WHERE action='backup'"
    )
    copy = Path(told["file"])
    assert (at_ms, note) == (told["at_ms"], f"{copy.name}, in clear")
    assert told == {
        "file": str(copy),
        "bytes": copy.stat().st_size,
        "at_ms": at_ms,
        "sealed": False,
        "removed": [],
        "recorded": True,
        "keys": None,
    }


def json_of_backup(config: Path, to: Path) -> dict[str, Any]:
    done = run("backup", to, "--json", "--config", config)
    assert done.code == 0
    told: dict[str, Any] = json.loads(done.out)
    return told


def test_of_a_sealed_copy_nothing_is_in_clear_anywhere(
    config: Path, to: Path, identity: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(config)
    seen: list[bytes] = []
    write = folder._Steady.write

    def watched(self: folder._Steady, data: bytes) -> int:
        seen.extend(path.read_bytes() for path in (*to.iterdir(), *config.parent.glob("*.part")))
        return write(self, data)

    monkeypatch.setattr(folder._Steady, "write", watched)
    done = run("backup", to, "--config", config)
    [copy] = to.iterdir()
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(", sealed to 1 recipient.\n")
    assert copy.name.endswith(".db.age")
    seen.append(copy.read_bytes())
    assert len(seen) > 1
    assert not any(b"SQLite format" in content or b"AMINA" in content for content in seen)
    opened = pyrage.decrypt(copy.read_bytes(), [IDENTITY])
    assert opened.startswith(b"SQLite format 3\0")
    assert b"AMINA" in opened


def test_older_copies_go_when_the_new_one_is_there(config: Path, to: Path) -> None:
    for day in range(1, 5):
        (to / f"premblyd-2026010{day}T000000Z.db{'.age' * (day % 2)}").touch()
    others = ["premblyd-20260101T000000Z.dump", "premblyd-20260101T000000Z.db.txt", "mine.db"]
    for name in others:
        (to / name).touch()
    copy = back_up(config, to, "--keep", 2)
    assert set(names(to)) == {"premblyd-20260104T000000Z.db", copy.name, *others}
    assert run("backup", to, "--keep", 1, "--config", config).out.endswith(
        "Removed 2 older copies.\n"
    )


def test_none_goes_while_the_new_one_is_not_there(
    config: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = back_up(config, to)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    monkeypatch.setattr(folder, "_UNSYNCED_BYTES", 1)
    done = run("backup", to, "--keep", 1, "--config", config)
    assert (done.code, done.out) == (1, "")
    assert f"could not be written into {to}: No space left on device." in done.err
    assert names(to) == [older.name]


@pytest.fixture
def damaged(database: Path) -> None:
    """An index lacks a row."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA writable_schema = on")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'received_at_ms', 'id')"
            " WHERE type = 'index' AND name = 'event_received'"
        )


@pytest.mark.usefixtures("damaged")
def test_a_damaged_database_is_not_copied(config: Path, to: Path) -> None:
    older = to / "premblyd-20260101T000000Z.db"
    older.touch()
    done = run("backup", to, "--keep", 1, "--config", config)
    assert done.code == 1
    assert "so a copy of it would be worth nothing" in done.err
    assert names(to) == [older.name]


def test_what_a_killed_run_left_is_removed_and_nothing_else(config: Path, to: Path) -> None:
    left = to / ".premblyd-0123456789abcdef.part"
    others = [".premblyd-0123.part", "premblyd.part", ".mine-0123456789abcdef.part"]
    for path in (left, *(to / name for name in others)):
        path.write_text("x")
    copy = back_up(config, to)
    assert set(names(to)) == {copy.name, *others}


def test_two_runs_do_not_write_into_one_folder_at_once(config: Path, to: Path) -> None:
    with folder.held(to):
        done = run("backup", to, "--config", config)
    assert (done.code, done.out) == (75, "")
    assert "Another backup writes into" in done.err
    assert names(to) == []


def test_two_copies_of_one_second_have_two_names(tmp_path: Path, to: Path, database: Path) -> None:
    backed = backend(database)
    made = [make(backed, to, (), None, 1_780_000_000_000, lambda _: None) for _ in range(12)]
    assert [copy.path for copy in folder.copies(to, "db")] == [each.path for each in made]
    assert folder.chosen(to, "db", None).path == made[-1].path


def test_a_folder_that_is_not_there_is_not_made(config: Path, tmp_path: Path) -> None:
    done = run("backup", tmp_path / "unmounted", "--config", config)
    assert (done.code, done.out) == (1, "")
    assert "Make it (`mkdir -m 0700`), or mount its disk." in done.err


def test_a_secret_key_is_no_recipient_and_is_not_quoted(config: Path, to: Path) -> None:
    settings = json.loads(config.read_text())
    for wrong, message in ((str(IDENTITY), "this is the secret key"), ("age", "begins with age1")):
        config.write_text(json.dumps(settings | {"backup": {"recipients": [wrong]}}))
        done = run("backup", to, "--config", config)
        assert done.code == 78
        assert message in done.err
        assert str(IDENTITY) not in done.err
    assert names(to) == []


def test_how_far_it_is_is_told(database: Path, to: Path) -> None:
    told: list[Copied] = []
    made = make(backend(database), to, (), None, 1, told.append)
    assert told[0].is_checking
    assert told[-1] == Copied(bytes=made.bytes, total_bytes=made.bytes)


def test_it_copies_beside_who_writes_and_what_comes_meanwhile_is_not_in_it(
    database: Path, to: Path
) -> None:
    """Who writes does not wait: it would here for ever."""
    before = rows(database, EVENTS)

    def write(copied: Copied) -> None:
        with closing(sqlite3.connect(database, timeout=0)) as connection, connection:
            connection.execute("UPDATE event SET reference = ?", (f"later {copied.bytes}",))

    made = make(backend(database), to, (), None, 1, write)
    assert rows(made.path, EVENTS) == before
    assert rows(made.path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(database, "SELECT count(*) FROM event WHERE reference NOT LIKE 'later%'") == [(0,)]


@pytest.mark.usefixtures("each_sqlite")
def test_what_rows_left_where_they_were_before_is_not_in_it(database: Path, to: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        (number,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'alert_failure'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute("PRAGMA wal_checkpoint(truncate)")
    with database.open("r+b") as file:
        file.seek((number - 1) * size + size // 2)
        file.write(b"left-behind")
    made = make(backend(database), to, (), None, 1, lambda _: None)
    assert b"left-behind" in database.read_bytes()
    assert b"left-behind" not in made.path.read_bytes()


@pytest.mark.usefixtures("each_sqlite")
def test_what_was_deleted_before_that_was_overwritten_is_not_in_it(
    database: Path, to: Path
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA secure_delete = off")
        connection.execute("CREATE TABLE long (text)")
        text = "left-behind" * 500_000  # more pages than one page can list as free
        connection.execute("INSERT INTO long VALUES (?)", (text,))
        connection.commit()
        connection.execute("DROP TABLE long")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(truncate)")
    made = make(backend(database), to, (), None, 1, lambda _: None)
    assert b"left-behind" in database.read_bytes()
    assert b"left-behind" not in made.path.read_bytes()
    assert rows(made.path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(made.path, EVENTS) == rows(database, EVENTS)


def test_a_sqlite_that_shows_no_pages_copies_all_the_same(
    config: Path, database: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "can_clear", lambda _: False)
    assert rows(back_up(config, to), EVENTS) == rows(database, EVENTS)
    monkeypatch.setattr(pages, "MAX_IN_MEMORY_BYTES", 1000)
    done = run("backup", to, "--config", config)
    assert done.code == 1
    assert "without sqlite_dbpage" in done.err


def test_the_newest_copy_is_put_in_the_place_of_the_database(
    config: Path, database: Path, to: Path, identity: Path
) -> None:
    first = back_up(config, to)
    seal(config)
    kept = rows(database, EVENTS)
    second = back_up(config, to)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM event WHERE id > 3")
    done = restore(config, to, "--identity", identity)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Put {second} in the place of {database}: {len(kept)} events, ")
    assert rows(database, EVENTS) == kept
    done = restore(config, to, "--copy", first.name)
    assert done.out.startswith(f"Put {first} in the place of {database}: ")
    done = restore(config, to, "--copy", "another")
    assert (done.code, done.out) == (1, "")
    assert f"There is no copy another in {to}: " in done.err


def test_a_sealed_copy_is_put_in_by_its_own_key_alone(
    config: Path, database: Path, to: Path, identity: Path
) -> None:
    seal(config)
    copy = back_up(config, to)
    before = database.read_bytes()
    other = identity.with_name("other")
    other.write_text(str(pyrage.x25519.Identity.generate()))
    done = restore(config, to)
    assert (done.code, done.out) == (1, "")
    assert f"{copy} is sealed by age: --identity FILE" in done.err
    for wrong, message in (
        (other, "It can't be opened: "),
        (config, f"{config} is no identity of age"),
        (to / "missing", f"{to}/missing can't be read"),
    ):
        done = restore(config, to, "--identity", wrong)
        assert (done.code, done.out) == (1, "")
        assert message in done.err
    whole = copy.read_bytes()
    for spoiled in (whole[:100], whole[:-1000], whole[:-1000] + bytes(1000)):
        copy.write_bytes(spoiled)
        done = restore(config, to, "--identity", identity)
        assert (done.code, done.out) == (1, "")
        assert "Is it whole, and sealed to this identity?" in done.err
    assert database.read_bytes() == before
    assert list(config.parent.glob("premblyd.db.*")) == [database.with_name("premblyd.db.lock")]


def test_who_was_erased_since_a_sealed_copy_is_erased_from_it(
    config: Path, database: Path, to: Path, identity: Path
) -> None:
    seal(config)
    copy = back_up(config, to)
    named = "FROM event WHERE reference IS NOT NULL GROUP BY reference"
    [(reference,)] = rows(database, f"SELECT reference {named} ORDER BY count(*) DESC, 1 LIMIT 1")
    assert run("erase", "--reference", reference, "--yes", "--config", config).code == 0
    after = back_up(config, to)
    assert reference.encode() in pyrage.decrypt(copy.read_bytes(), [IDENTITY])
    assert reference.encode() not in pyrage.decrypt(after.read_bytes(), [IDENTITY])
    done = restore(config, to, "--copy", copy.name, "--identity", identity)
    assert done.code == 0, done.err
    assert f"{copy} has them still: delete it." in done.out
    assert reference.encode() not in database.read_bytes()
    assert rows(database, "SELECT count(*) FROM event WHERE reference = ?", reference) == [(0,)]


KILLED = """
import os
from pathlib import Path
from premblyd.backup import folder
from premblyd.engines.sqlite import copies, pages
folder._UNSYNCED_BYTES = 1
calls = []

def kill(*_):
    calls.append(None)
    if len(calls) == {at}:
        os.kill(os.getpid(), 9)
    return original(*_)

original, {where} = {where}, kill
"""


def killed(where: str, at: int, *arguments: object) -> None:
    """Run a command that is killed where it calls a function for the nth time."""
    before = KILLED.format(where=where, at=at)
    with Forked(arguments, before=before, stderr=subprocess.PIPE) as process:
        assert process.wait() == -signal.SIGKILL


def test_ctrl_c_says_what_is_there_still_and_how_to_go_on(config: Path, to: Path) -> None:
    """In a process of its own, as a terminal ends it."""
    older = back_up(config, to)
    before = KILLED.format(where="os.fdatasync", at=1).replace("getpid(), 9", "getpid(), 2")
    arguments = ("backup", to, "--config", config)
    with Forked(arguments, before=before, stderr=subprocess.PIPE) as process:
        assert process.wait() == 1
        told = process.stderr.read() if process.stderr else b""
    assert told.startswith(b"Interrupted. The copies of before are there still.")
    assert list(to.iterdir()) == [older]


@for_each(("where", "at"), [("pages._require_whole", 1), ("os.fdatasync", 1), ("Path.rename", 1)])
def test_a_run_that_is_killed_leaves_no_copy_and_the_next_cleans_up(
    where: str, at: int, config: Path, to: Path
) -> None:
    """In a process of its own, as that is killed."""
    seal(config)
    older = back_up(config, to, "--keep", 1)
    killed(where, at, "backup", to, "--keep", 1, "--config", config)
    left = [path for path in to.iterdir() if path != older]
    assert [path.name.endswith(".part") for path in left] == [True]
    assert all(b"AMINA" not in path.read_bytes() for path in to.iterdir())
    copy = back_up(config, to, "--keep", 1)
    assert names(to) == [copy.name]


@for_each(
    ("where", "at"),
    [
        ("copies._looked_through", 1),
        ("Path.rename", 1),
        ("Path.rename", 3),
    ],
)
def test_a_restore_that_is_killed_goes_on_or_has_changed_nothing(
    where: str, at: int, config: Path, database: Path, to: Path, identity: Path
) -> None:
    """In a process of its own, as that is killed."""
    seal(config)
    copied = rows(database, EVENTS)
    back_up(config, to)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM event WHERE id > 3")
    arguments = ("restore", to, "--identity", identity, "--config", config)
    killed(where, at, *arguments)
    if database.exists():
        assert rows(database, "SELECT count(*) FROM event") in ([(3,)], [(len(copied),)])
    assert run(*arguments).code == 0
    assert rows(database, EVENTS) == copied
