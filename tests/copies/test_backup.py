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

from premblyd import keyfile
from premblyd.copies import copying
from premblyd.copies.copying import CopyError
from premblyd.copies.names import CopyName, copies_in, digest_of, parse
from premblyd.databases import MAGIC, EncryptedFile, is_plain
from premblyd.engines.connections import connect_read_only, put_aside
from premblyd.engines.sqlite.files import PART
from premblyd.errors import PremblydError
from premblyd.keep import erasurelines
from tests.faults.daemon import folder
from tests.faults.disk_faults import small_disk
from tests.support.commands import json_of, on_terminal, record, recorded_in, run, run_process
from tests.support.configuration import configuration
from tests.support.daemon import Premblyd
from tests.support.database import by_hand, changing, file_in, prepared_file, rows
from tests.support.forking import Forked
from tests.support.needs import needs_machine, needs_root
from tests.support.rows import for_each
from tests.support.users import NOBODY

pytestmark = pytest.mark.sqlite
DIGEST = "0" * 16
FOLDERS = "SELECT folder, copied_at_ms IS NOT NULL, file, error FROM backup_folder"
DYING = """
import importlib, os, signal
from premblyd.databases import MAGIC, EncryptedFile, is_plain
from premblyd.copies import copying
copying.PAGES = 8
setattr(importlib.import_module("{}"), "{}", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
"""
PLACES = [
    ("premblyd.copies.copying", "_copy"),  # the file is there, and empty
    ("time", "sleep"),  # after a portion
    ("os", "fsync"),  # it was checked
    ("os", "rename"),
    ("premblyd.copies.copying", "keep_newest"),  # it has its name by then
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
    [(record_id, newest)] = rows(
        file_of(config), "SELECT record_id, (SELECT max(id) FROM event) FROM record"
    )
    with copy.open("rb") as file:
        name = CopyName(record_id, newest, 1, digest_of(file.fileno()))
    assert copies_in(there) == [name]
    assert made == {
        "folder": str(there),
        "file": str(name),
        "file_bytes": copy.stat().st_size,
        "copied_at_ms": made["copied_at_ms"],
        "deleted": [],
    }
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert dump(copy) == dump(file_of(config))
    assert names_in(there) == [copy.name]
    assert copy.read_bytes()[18:20] == b"\1\1", "no WAL"
    assert rows(file_of(config), FOLDERS) == [(str(there), 1, copy.name, None)]


def test_it_ends_beside_one_who_writes_without_end_and_is_of_one_moment(
    config: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "PAGES", 1)
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
    assert steps == [("copying", done, total) for done in range(1, total + 1)] + [
        ("checking", 0, None)
    ]


def test_a_copy_of_an_encrypted_record_is_encrypted_by_the_same_key(
    tmp_path: Path, there: Path
) -> None:
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
    keyfile.next_to(place.key_path).touch()
    with pytest.raises(CopyError, match="key is being changed"), copying.opened(there) as folder:
        copying.back_up(copying.source_at(place), folder, lambda *_: None)


@pytest.mark.process
@pytest.mark.promise
def test_it_works_beside_a_daemon(daemon: Premblyd, there: Path) -> None:
    daemon.start()
    for number in range(1, 4):
        assert daemon.send(b'{"response_code": "00"}', token=f"t-{number}").status == 200
        assert json_of(daemon.config, "record", "backup", there, "--keep", 2)["file_bytes"]
    assert [copy.event_id for copy in copies_in(there)] == [2, 3]
    assert daemon.stop() == 0


def test_only_the_oldest_of_this_record_go(config: Path, there: Path) -> None:
    (outside := there.parent / "outside").write_text("mine")
    own = CopyName(json_of(config, "record", "backup", there)["file"][9:17], 0, 1, DIGEST)
    foreign = [
        str(CopyName("ffffffff", 1, 1, DIGEST)),
        "notes.txt",
        str(CopyName(own.record_id, 0, 2, DIGEST)),
    ]
    for name in foreign[:2]:
        (there / name).touch()
    (there / foreign[2]).symlink_to(outside)
    (there / str(own)).write_bytes(b"of another key, or broken: it is not opened")
    os.mkfifo(there / (fifo := str(CopyName(own.record_id, 10**6, 7, DIGEST))))
    assert json_of(config, "record", "backup", there, "--keep", 2)["deleted"] == [str(own)]
    newest = [str(copy) for copy in copies_in(there, own.record_id)]
    assert [copy.count for copy in copies_in(there, own.record_id)] == [1, 2]
    assert names_in(there) == sorted([*foreign, *newest, fifo])
    assert outside.read_text() == "mine"
    last = json_of(config, "record", "backup", there, "--keep", 1)
    assert [str(copy) for copy in copies_in(there, own.record_id)] == [last["file"]]
    assert run("record", "backup", there, "--keep", 0, "--config", config).code == 2


def test_a_fifo_or_a_link_with_the_next_name_is_left_as_it_is(config: Path, there: Path) -> None:
    first = json_of(config, "record", "backup", there)["file"]
    (there / first).unlink()
    os.mkfifo(there / first)
    (there / first.replace("-001", "-002")).symlink_to("/nowhere")
    next_ = parse(json_of(config, "record", "backup", there)["file"])
    assert next_ is not None
    assert next_.count == 3


@pytest.mark.process
@for_each(("module", "name"), PLACES)
def test_what_a_kill_leaves_has_no_copys_name_unless_it_is_whole(
    config: Path, there: Path, module: str, name: str
) -> None:
    for copy in copies_in(there):
        (there / str(copy)).unlink()
    words = ("record", "backup", there, "--keep", 1, "--config", config)
    assert run_process(*words, before=DYING.format(module, name)).code == -signal.SIGKILL
    is_named = name == "keep_newest"
    assert len(copies_in(there)) == is_named
    assert len(names_in(there)) >= 1
    for copy in copies_in(there):
        assert dump(there / str(copy)) == dump(file_of(config))
    made = json_of(config, "record", "backup", there, "--keep", 1)
    assert names_in(there) == [made["file"]], "what the kill left is gone"


@pytest.mark.process
def test_standard_output_gets_a_copy_and_no_folder_does(config: Path, tmp_path: Path) -> None:
    before = names_in(tmp_path)
    with (tmp_path / "copy").open("wb") as out:
        process = Forked(["record", "backup", "-", "--config", config], stdout=out)
    assert process.wait() == 0
    assert dump(tmp_path / "copy") == dump(file_of(config))
    assert set(names_in(tmp_path)) - {"copy", "premblyd.db-wal", "premblyd.db-shm"} == set(before)
    assert rows(file_of(config), FOLDERS) == []


@pytest.mark.process
def test_a_copy_that_nobody_takes_is_no_success(config: Path, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full, (tmp_path / "error").open("wb") as error:
        process = Forked(["record", "backup", "-", "--config", config], stdout=full, stderr=error)
    assert process.wait() == 1
    said = (tmp_path / "error").read_text()
    assert said == "The copy can't be written out: No space left on device.\n"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as left:
        assert Forked(["record", "backup", "-", "--config", config], stdout=left).wait() == 1


@pytest.mark.process
def test_a_terminal_gets_no_copy(config: Path) -> None:
    said = " ".join(on_terminal(80, "record", "backup", "-", "--config", config, code=2))
    assert "for a pipe or a file" in said


@pytest.mark.process
def test_a_killed_copy_for_standard_output_is_deleted_by_the_next(
    config: Path, tmp_path: Path
) -> None:
    words, parts = ("record", "backup", "-", "--config", config), f"{PART}*"
    assert run_process(*words, before=DYING.format(*PLACES[1])).code == -signal.SIGKILL
    assert list(tmp_path.glob(parts))
    with (tmp_path / "copy").open("wb") as out:
        assert Forked(words, stdout=out).wait() == 0
    assert not list(tmp_path.glob(parts))


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
def test_a_folder_that_can_not_be_used_is_said_and_noted(
    config: Path, there: Path, tmp_path: Path
) -> None:
    fails(config, tmp_path / "none", 75, "No such file", "must be there")
    fails(config, config, 75, "Not a directory")
    with copying.opened(there):
        fails(config, there, 75, "Another backup is writing")
    there.chmod(0o770)
    fails(config, there, 1, "Others may write to this folder", "mode 0700")
    there.chmod(0o700)
    fails(config, there, 75, "could not be made", before=LIMITED)
    json_of(config, "record", "backup", there)
    [(_, copied, _, error)] = [
        row for row in rows(file_of(config), FOLDERS) if row[0] == str(there)
    ]
    assert (copied, error) == (1, None)


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"


def test_a_damaged_record_gets_no_copy_and_no_older_one_goes(config: Path, there: Path) -> None:
    first = json_of(config, "record", "backup", there)["file"]
    [(page,)] = rows(
        file_of(config), "SELECT rootpage FROM sqlite_schema WHERE name = 'event_received'"
    )
    with file_of(config).open("r+b") as file:
        file.seek((page - 1) * 4096 + 3)
        file.write(b"\0\0")  # an index that says that it is empty
    done = run("record", "backup", there, "--keep", 1, "--config", config)
    assert (done.code, "The copy is damaged" in done.err) == (1, True)
    assert names_in(there) == [first]


@pytest.mark.process
def test_a_full_disk_is_said_before_anything_is_written(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with needs_machine(), small_disk("1m") as disk:
        disk.chmod(0o700)
        fails(config, disk, 75, "The disk is too small for a copy: 6", "must be free there")
        monkeypatch.setattr("premblyd.engines.sqlite.files.SPARE_BYTES", -(1 << 30))
        (disk / "other").write_bytes(bytes(800_000))
        with pytest.raises(PremblydError, match="disk is full"), copying.opened(disk) as it:
            copying.back_up(copying.source_at(file_of(config)), it, lambda *_: None)
        assert names_in(disk) == ["other"]


def test_a_folder_that_goes_while_it_is_copied_to_is_said(config: Path, there: Path) -> None:
    def remove(what: str, *_: object) -> None:
        if what == "checking":
            shutil.rmtree(there)

    with pytest.raises(CopyError), copying.opened(there) as folder:
        copying.back_up(copying.source_at(file_of(config)), folder, remove)


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


def test_a_folder_is_forgotten(config: Path, there: Path) -> None:
    json_of(config, "record", "backup", there)
    told = json_of(config, "record", "backup", there, "--forget")
    assert told == {"folder": str(there), "forgotten": True}
    assert rows(file_of(config), FOLDERS) == []
    assert len(copies_in(there)) == 1


def test_a_record_on_a_server_is_pg_dump_s(tmp_path: Path) -> None:
    server = {"database": "postgresql://premblyd@db.internal/premblyd"}
    (tmp_path / "premblyd.yaml").write_text(json.dumps(configuration(**server)))
    done = run("record", "backup", tmp_path, "--config", tmp_path / "premblyd.yaml")
    assert (done.code, "copy it with pg_dump" in done.err) == (1, True)


def test_a_folder_of_copies_gets_all_lines_of_erasures_and_keeps_those_it_has(
    config: Path, there: Path
) -> None:
    assert run("person", "erase", "--event", 1, "--yes", "--config", config).code == 0
    json_of(config, "record", "backup", there)
    lines = (there / erasurelines.NAME).read_text()
    with closing(connect_read_only(file_of(config))) as database:
        record = database.look(erasurelines.record_id)
        found = erasurelines.read_lines(there / erasurelines.NAME, record)
        assert list(found.lines) == erasurelines.all_lines(database) != []
    with changing(file_of(config)) as connection:  # as in a copy that was put in by hand
        connection.execute("UPDATE event SET erasure_id = NULL, removed_parts = NULL")
    json_of(config, "record", "backup", there)
    assert (there / erasurelines.NAME).read_text() == lines
    (there / erasurelines.NAME).unlink()
    (there / erasurelines.NAME).symlink_to(there.parent / "elsewhere")
    done = run("record", "backup", there, "--config", config)
    assert (done.code, erasurelines.NAME in done.err) == (1, True)
    assert not (there.parent / "elsewhere").exists()
    [(_, copied, _, error)] = rows(file_of(config), FOLDERS)
    assert (copied, error) == (1, done.err.strip())


def test_what_a_killed_copy_to_a_pipe_leaves_is_named_and_not_while_it_is_made(
    config: Path,
) -> None:
    left = config.with_name(f"{PART}x")
    left.mkdir()
    with copying.opened(config.parent):
        assert put_aside(config.with_name("premblyd.db")) == []
    assert put_aside(config.with_name("premblyd.db")) == [left]
    assert f"rm -r {left}" in run("status", "--config", config).out
