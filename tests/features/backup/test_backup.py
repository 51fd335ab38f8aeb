"""`premblyd record backup`: what has a copy's name is whole, whatever happens meanwhile."""

import json
import os
import shutil
import signal
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from premblyd.features.backup import copying
from premblyd.features.backup.copying import CopyError, CopyName, copies_in, digest_of, parse
from premblyd.features.keeping import erasurelines
from premblyd.ground import databases
from premblyd.ground.databases import MAGIC, EncryptedFile, is_plain
from premblyd.ground.errors import PremblydError
from premblyd.store.connections import connect_read_only, put_aside
from premblyd.store.sqlite.files import PART
from tests.faults.daemon import folder
from tests.faults.disk_faults import small_disk
from tests.support.commands import json_of, on_terminal, record, recorded_in, run, run_process
from tests.support.configuration import configuration
from tests.support.database import by_hand, changing, file_in, prepared_file, rows
from tests.support.forking import Forked
from tests.support.needs import needs_machine, needs_root
from tests.support.rows import for_each
from tests.support.users import NOBODY

pytestmark = pytest.mark.sqlite
DIGEST = "0" * 16
FOLDERS = "SELECT folder, copied_at_ms IS NOT NULL, error FROM backup_folder"
DYING = """
import importlib, os, signal
from premblyd.features.backup import copying
copying.PAGES = 8
setattr(importlib.import_module("{}"), "{}", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
"""
PLACES = [
    ("premblyd.features.backup.copying", "_copy"),  # the file is there, and empty
    ("time", "sleep"),  # after a portion
    ("os", "fsync"),  # it was checked
    ("os", "rename"),
    ("premblyd.features.backup.copying", "keep_newest"),  # it has its name by then
]


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder for copies."""
    folder = tmp_path / "copies"
    folder.mkdir(0o700)
    return folder


def file_of(config: Path) -> Path:
    place = recorded_in(config)
    assert isinstance(place, Path)
    return place


def dump(file: Path) -> list[str]:
    """Return all that a database holds, as SQL; its file is whole."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [line for line in connection.iterdump() if "backup_folder" not in line]


def names_in(folder: Path) -> list[str]:
    """Return what is in a folder, but for the lines of erasures."""
    return sorted({each.name for each in folder.iterdir()} - {"erased.jsonl"})


def test_a_copy_holds_all_of_the_record_and_needs_no_other_file(config: Path, there: Path) -> None:
    made = json_of(config, "record", "backup", there)
    copy = there / made["file"]
    about_record = "SELECT record_id, (SELECT max(id) FROM event) FROM record"
    [(record_id, newest)] = rows(file_of(config), about_record)
    with copy.open("rb") as file:
        name = CopyName(record_id, newest, 1, digest_of(file.fileno()))
    assert copies_in(there) == [name]
    about = {"file": str(name), "file_bytes": copy.stat().st_size, "deleted": []}
    assert made == {"folder": str(there), **about}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert dump(copy) == dump(file_of(config))
    assert names_in(there) == [copy.name]
    assert copy.read_bytes()[18:20] == b"\1\1", "no WAL"
    assert rows(file_of(config), FOLDERS) == [(str(there), 1, None)]
    told = json_of(config, "record", "backup", there, "--forget")
    assert told == {"folder": str(there), "forgotten": True}
    assert rows(file_of(config), FOLDERS) == []
    assert copies_in(there) == [name]


def test_it_ends_beside_one_who_writes_without_end_and_is_of_one_moment(
    config: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "PAGES", 8)
    monkeypatch.setattr(copying, "PAUSE_S", 0)
    steps = []
    before = dump(file_of(config))

    def write(what: str, done: int, total: int | None) -> None:
        steps.append((what, done, total))
        by_hand(file_of(config), "UPDATE event SET detail = ?", f"{done:2000}")
        by_hand(file_of(config), "DELETE FROM rejection")

    with copying.opened(there) as folder:
        copy, _ = copying.back_up(copying.source_at(file_of(config)), folder, write)
    assert dump(there / str(copy)) == before
    total = steps[0][2] or 0
    copied = [("copying", min(done, total), total) for done in range(8, total + 8, 8)]
    assert steps == [*copied, ("checking", 0, None)]


def test_a_copy_of_an_encrypted_record_has_the_same_key(tmp_path: Path, there: Path) -> None:
    place = file_in(tmp_path, is_encrypted=True)
    assert isinstance(place, EncryptedFile)
    shutil.copy(prepared_file(is_encrypted=True), place.path)
    with copying.opened(there) as folder:
        copy, _ = copying.back_up(copying.source_at(place), folder, lambda *_: None)
    assert is_plain(there / str(copy)) is False
    the_same = "SELECT record_id, digest_key FROM record"
    assert rows(replace(place, path=there / str(copy)), the_same) == rows(place, the_same)
    with copying.send(copying.source_at(place), lambda *_: None) as sent:
        assert sent.read(len(MAGIC)) != MAGIC
    databases.next_key(place.key_path).touch()
    with pytest.raises(CopyError, match="key is being changed"), copying.opened(there) as folder:
        copying.back_up(copying.source_at(place), folder, lambda *_: None)


def test_only_the_oldest_of_this_record_go(config: Path, there: Path) -> None:
    """Whatever else has such a name is left as it is, and so is what a link leads to."""
    (outside := there.parent / "outside").write_text("mine")
    own = parse(json_of(config, "record", "backup", there)["file"])
    assert own is not None
    (there / str(own)).write_bytes(b"of another key, or broken: it is not opened")
    foreign = [str(CopyName("ffffffff", 1, 1, DIGEST)), "notes.txt", str(replace(own, count=2))]
    for name in foreign[:2]:
        (there / name).touch()
    (there / foreign[2]).symlink_to(outside)
    os.mkfifo(there / (fifo := str(CopyName(own.record_id, 10**6, 7, DIGEST))))
    made = [json_of(config, "record", "backup", there, "--keep", 2) for _ in range(2)]
    assert [each["deleted"] for each in made] == [[], [str(own)]]
    assert [copy.count for copy in copies_in(there, own.record_id)] == [3, 4]
    assert names_in(there) == sorted([*foreign, fifo, *(each["file"] for each in made)])
    last = json_of(config, "record", "backup", there, "--keep", 1)
    assert [str(copy) for copy in copies_in(there, own.record_id)] == [last["file"]]
    assert outside.read_text() == "mine"
    assert run("record", "backup", there, "--keep", 0, "--config", config).code == 2


@pytest.mark.process
@for_each(("module", "name"), PLACES)
def test_what_a_kill_leaves_has_no_copys_name_unless_it_is_whole(
    config: Path, there: Path, module: str, name: str
) -> None:
    for copy in copies_in(there):
        (there / str(copy)).unlink()
    words = ("record", "backup", there, "--keep", 1)
    killed = run_process(*words, "--config", config, before=DYING.format(module, name))
    assert killed.code == -signal.SIGKILL
    assert len(copies_in(there)) == (name == "keep_newest")
    assert len(names_in(there)) >= 1
    for copy in copies_in(there):
        assert dump(there / str(copy)) == dump(file_of(config))
    made = json_of(config, *words)
    assert names_in(there) == [made["file"]], "what the kill left is gone"


@pytest.mark.process
def test_standard_output_gets_a_copy_and_no_folder_does(config: Path, tmp_path: Path) -> None:
    """What one that was killed has left is named, and deleted by the next."""
    words, database = ("record", "backup", "-", "--config", config), file_of(config)
    assert run_process(*words, before=DYING.format(*PLACES[1])).code == -signal.SIGKILL
    [left] = tmp_path.glob(f"{PART}*")
    with copying.opened(config.parent):
        assert put_aside(database) == [], "another is made"
    assert put_aside(database) == [left]
    assert f"rm -r {left}" in run("status", "--config", config).out
    with (tmp_path / "copy").open("wb") as out:
        assert Forked(words, stdout=out).wait() == 0
    assert dump(tmp_path / "copy") == dump(database)
    assert not left.exists()
    assert rows(database, FOLDERS) == []


@pytest.mark.process
def test_a_copy_that_nobody_takes_is_no_success(config: Path, tmp_path: Path) -> None:
    """And a terminal gets none."""
    words = ("record", "backup", "-", "--config", config)
    with open("/dev/full", "wb") as full, (tmp_path / "error").open("wb") as error:
        assert Forked(words, stdout=full, stderr=error).wait() == 1
    said = (tmp_path / "error").read_text()
    assert said == "The copy can't be written out: No space left on device.\n"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as left:
        assert Forked(words, stdout=left).wait() == 1
    assert "for a pipe or a file" in " ".join(on_terminal(80, *words, code=2))


def fails(config: Path, folder: Path, status: int, *words: str, before: str = "") -> None:
    """A backup fails with this status and these words, leaves nothing, and the record knows."""
    was = names_in(folder) if folder.is_dir() else []
    done = run_process("record", "backup", folder, "--config", config, before=before)
    assert done.code == status, done
    assert all(word in done.err for word in words), done.err
    assert (names_in(folder) if folder.is_dir() else []) == was
    [(error,)] = rows(file_of(config), f"SELECT error FROM backup_folder WHERE folder = '{folder}'")
    assert error in done.err


@pytest.mark.process
def test_a_folder_of_no_use_is_said_and_noted(config: Path, there: Path, tmp_path: Path) -> None:
    fails(config, tmp_path / "none", 75, "No such file", "must be there")
    fails(config, config, 75, "Not a directory")
    with copying.opened(there):
        fails(config, there, 75, "Another backup is writing")
    there.chmod(0o770)
    fails(config, there, 1, "Others may write to this folder", "mode 0700")
    there.chmod(0o700)
    fails(config, there, 75, "could not be made", before=LIMITED)
    json_of(config, "record", "backup", there)
    [row] = [row for row in rows(file_of(config), FOLDERS) if row[0] == str(there)]
    assert (row[1], row[2]) == (1, None)


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"


def test_a_damaged_record_gets_no_copy_and_no_older_one_goes(config: Path, there: Path) -> None:
    first = json_of(config, "record", "backup", there)["file"]
    root = "SELECT rootpage FROM sqlite_schema WHERE name = 'event_received'"
    [(page,)] = rows(file_of(config), root)
    with file_of(config).open("r+b") as file:
        file.seek((page - 1) * 4096 + 3)
        file.write(b"\0\0")  # an index that says that it is empty
    done = run("record", "backup", there, "--keep", 1, "--config", config)
    assert (done.code, "The copy is damaged" in done.err) == (1, True)
    assert names_in(there) == [first]


@pytest.mark.process
def test_a_full_disk_is_said_beforehand(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with needs_machine(), small_disk("1m") as disk:
        disk.chmod(0o700)
        fails(config, disk, 75, "The disk is too small for a copy: 6", "must be free there")
        monkeypatch.setattr("premblyd.features.backup.taking.SPARE_BYTES", -(1 << 30))
        (disk / "other").write_bytes(bytes(800_000))
        with pytest.raises(PremblydError, match="disk is full"), copying.opened(disk) as it:
            copying.back_up(copying.source_at(file_of(config)), it, lambda *_: None)
        assert names_in(disk) == ["other"]


@pytest.mark.process
@needs_root
def test_what_root_copies_belongs_to_the_owner_of_the_database() -> None:
    with folder() as at:
        config, there = record(at), at / "copies"
        there.mkdir(0o700)
        for path in (config.parent, *config.parent.iterdir(), there):
            os.chown(path, NOBODY, NOBODY)
        done = run_process("record", "backup", there, "--json", "--config", config)
        assert done.code == 0, done.err
        copy = (there / json.loads(done.out)["file"]).stat()
        assert (copy.st_uid, copy.st_gid, stat.S_IMODE(copy.st_mode)) == (NOBODY, NOBODY, 0o600)
        os.chown(there, 0, 0)
        fails(config, there, 75, "Permission denied", "the user whom the database belongs to")


def test_a_record_on_a_server_is_pg_dump_s(tmp_path: Path) -> None:
    server = {"database": "postgresql://premblyd@db.internal/premblyd"}
    (tmp_path / "premblyd.yaml").write_text(json.dumps(configuration(**server)))
    done = run("record", "backup", tmp_path, "--config", tmp_path / "premblyd.yaml")
    assert (done.code, "copy it with pg_dump" in done.err) == (1, True)


def test_a_folder_of_copies_gets_and_keeps_lines_of_erasures(config: Path, there: Path) -> None:
    assert run("person", "erase", "--event", 1, "--yes", "--config", config).code == 0
    json_of(config, "record", "backup", there)
    lines = (there / erasurelines.NAME).read_text()
    with closing(connect_read_only(file_of(config))) as database:
        record = database.look(erasurelines.record_id)
        found = erasurelines.read_lines(there / erasurelines.NAME, record)
        assert list(found.lines) == erasurelines.all_lines(database) != []
    with changing(file_of(config)) as connection:  # as in a copy that was put in by hand
        connection.execute("UPDATE event SET removed_parts = NULL")
        connection.execute("DELETE FROM erased_event")
    json_of(config, "record", "backup", there)
    assert (there / erasurelines.NAME).read_text() == lines
    (there / erasurelines.NAME).unlink()
    (there / erasurelines.NAME).symlink_to(there.parent / "elsewhere")
    done = run("record", "backup", there, "--config", config)
    assert (done.code, erasurelines.NAME in done.err) == (1, True)
    assert not (there.parent / "elsewhere").exists()
    [(_, copied, error)] = rows(file_of(config), FOLDERS)
    assert (copied, error) == (1, done.err.strip())
