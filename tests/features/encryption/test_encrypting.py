"""`record encrypt`: a plain record is encrypted, or gets another key, wherever it is killed."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from signal import SIGKILL, SIGSEGV
from typing import Any

import pytest

from premblyd.config.load import load_config
from premblyd.features.encryption import keys as keyfiles
from premblyd.features.encryption.cli import Encrypted, encrypt_record, opening_key
from premblyd.ground import databases
from premblyd.ground.databases import EncryptedFile, is_plain, key_of
from premblyd.ground.errors import CannotStartError, LacksRightsError, PremblydError, TryAgainError
from premblyd.store.connections import connect_operator, connect_read_only
from premblyd.store.sqlite import connecting
from premblyd.store.sqlite.files import NEW, beside, put_aside
from tests.faults.daemon import folder
from tests.features.encryption.test_encryption import BODY
from tests.support.commands import json_of, run
from tests.support.configuration import ONCE, configuration, shell
from tests.support.daemon import Premblyd
from tests.support.database import KEY, file_in, prepared_file, rows
from tests.support.dying import dies
from tests.support.logs import logging_as_before
from tests.support.needs import needs_root
from tests.support.rows import for_each
from tests.support.store import NOW_MS

NOBODY = 65534
OTHER = "ab" * 32
PLAIN = configuration(database="sqlite:///premblyd.db", actions=[])
CONFIG = json.dumps(PLAIN | {"encryption": {"key": {"file": "database.key"}}})
PAUSE = "INSERT INTO pause (action, since_ms) VALUES (?, 9)"
PAUSED = "SELECT action FROM pause ORDER BY id"


def nothing(*_: object) -> None:
    """Show nothing of how far it is."""


def record_in(folder: Path, *, is_encrypted: bool) -> EncryptedFile:
    """Make a record with a row in its file and one in its log, as a killed daemon leaves it."""
    folder.mkdir(exist_ok=True)
    place = file_in(folder, is_encrypted=True)
    assert isinstance(place, EncryptedFile)
    shutil.copy(prepared_file(is_encrypted=is_encrypted), place.path)
    files = [place.path, beside(place.path, "-wal")]
    keys = [KEY] if is_encrypted else None
    with closing(connecting.connect(place.path.as_uri(), keys, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = wal")
        database.execute(PAUSE, ("in-file",))
        database.execute("PRAGMA wal_checkpoint(truncate)")
        database.execute(PAUSE, ("in-log",))
        kept = [file.read_bytes() for file in files]
    for file, content in zip(files, kept, strict=True):
        file.write_bytes(content)
    return place


def configured(folder: Path) -> tuple[EncryptedFile, Path]:
    """Return an encrypted record in a new folder, and its configuration."""
    place = record_in(folder, is_encrypted=True)
    (config := folder / "premblyd.yaml").write_text(CONFIG)
    return place, config


def new_key(folder: Path) -> Path:
    path = folder.parent / "next"
    path.write_text(OTHER)
    return path


def paused(place: EncryptedFile) -> list[str]:
    """Return what is in the record, by whichever key opens it."""
    keys = None if is_plain(place.path) else [opening_key(place.path, place.key_path)]
    with closing(connecting.connect(place.path.as_uri(), keys)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [name for (name,) in database.execute(PAUSED)]


@pytest.mark.process
def test_a_plain_record_is_encrypted_as_serve_said(tmp_path: Path) -> None:
    place = EncryptedFile(tmp_path / "premblyd.db", tmp_path / "database.key")
    actions = [shell("crm", "cat; exit 3", retry=ONCE)]
    with Premblyd(tmp_path, place=place.path) as daemon:
        daemon.configure(actions=actions)
        daemon.start()
        assert daemon.send(BODY).status == 200
        daemon.wait_for_rows([("dead",)], "SELECT state FROM delivery")
        daemon.stop(SIGKILL)
    before = rows(place.path, "SELECT * FROM event")
    refused = run("record", "encrypt", "--config", daemon.config)
    assert (refused.code, "premblyd init --encryption" in refused.err) == (78, True)
    made = run("init", "--encryption", tmp_path)
    assert (made.code, "Whoever loses it loses the record" in made.out) == (1, True)
    with logging_as_before(), Premblyd(tmp_path, place=place) as daemon:
        daemon.configure(actions=actions)
        code, told = daemon.fail_to_start()
        assert (code, "`premblyd record encrypt`" in told) == (78, True)
        done = run("record", "encrypt", "--config", daemon.config)
        assert (done.code, done.err) == (0, "")
        [aside] = put_aside(place.path)
        assert f"shred -u {aside}" in done.out
        assert "The old database file is kept" in run("status", "--config", daemon.config).out
        aside.unlink()
        daemon.start()
        again = run("record", "encrypt", "--config", daemon.config)
        assert (again.code, "Another premblyd uses" in again.err) == (75, True)
        daemon.stop()
    key = keyfiles.read_key(place.key_path)
    assert b"canary" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    with closing(connecting.connect(place.path.as_uri(), [key])) as database:
        assert database.execute("SELECT * FROM event").fetchall() == before
    assert key not in daemon.log_text() + done.out


def test_the_key_is_changed_and_the_old_one_kept(tmp_path: Path) -> None:
    place, config = configured(folder := tmp_path / "x")
    place.key_path.chmod(0o640)
    done = json_of(config, "record", "encrypt", "--new-key", new_key(folder))
    old = folder / "database.key.old-1"
    assert (done["finished"], done["removed_key"], done["old_key"]) == (False, None, str(old))
    assert (keyfiles.read_key(old), keyfiles.read_key(place.key_path)) == (KEY, OTHER)
    assert place.key_path.stat().st_mode & 0o777 == 0o640
    assert paused(place) == ["in-file", "in-log"]
    with closing(connecting.connect(Path(done["old_file"]).as_uri(), [KEY])) as database:
        assert [name for (name,) in database.execute(PAUSED)] == ["in-file", "in-log"]
    kept = {config.name, "premblyd.db", "database.key", old.name, Path(done["old_file"]).name}
    left = {path.name for path in folder.iterdir()} - {"premblyd.db.lock", "premblyd.db-shm"}
    assert left == kept
    same = run("record", "encrypt", "--config", config)
    assert same.out == f"{place.path} is encrypted with the key in {place.key_path}.\n"


WRITES = """import sys
from premblyd.store.sqlite import connecting
opened = connecting.connect(sys.argv[1], sys.argv[2:] or None, timeout=0)
opened.execute("PRAGMA journal_mode = wal")
"""


@pytest.mark.process
@for_each("is_encrypted", [True, False])
def test_until_the_new_file_is_there_no_command_writes_into_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_encrypted: bool
) -> None:
    """What it wrote would be lost, and its log be the new file's: malformed."""
    place = record_in(tmp_path / "x", is_encrypted=is_encrypted)
    told, replace = [], os.replace

    def tries(new: Path, real: Path) -> None:
        assert not beside(real, "-journal").exists(), "SQLite deletes it later, by its name"
        words = [sys.executable, "-c", WRITES, place.path.as_uri(), *([KEY] * is_encrypted)]
        told.append(subprocess.run(words, capture_output=True, check=False).stderr)
        replace(new, real)

    monkeypatch.setattr("os.replace", tries)
    encrypt_record(place, new_key(place.path.parent) if is_encrypted else None, NOW_MS, nothing)
    assert [b"database is locked" in each for each in told] == [True]
    assert paused(place) == ["in-file", "in-log"]


def test_a_command_does_not_write_what_was_replaced_while_it_opened_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the old file, and would write the new one's log: that would be malformed."""
    place = record_in(tmp_path / "x", is_encrypted=True)
    other, connect = shutil.copy(place.path, tmp_path / "other"), connecting.connect

    def opened(*each: Any, **more: Any) -> sqlite3.Connection:
        connection = connect(*each, **more)
        os.replace(other, place.path)
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(connecting, "connect", opened)
        with pytest.raises(PremblydError, match="was put in its place just now"):
            connect_operator(place)
    assert paused(place) == ["in-file", "in-log"]


@pytest.mark.process
@for_each("is_encrypted", [True, False])
def test_wherever_it_is_killed_one_whole_record_opens(tmp_path: Path, is_encrypted: bool) -> None:
    steps = 0
    while not killed_at(steps, tmp_path / f"{is_encrypted}{steps}", is_encrypted=is_encrypted):
        steps += 1
    assert steps > (30 if is_encrypted else 20)


CALLS = {"open", "os.link", "os.rename", "os.remove", "os.chmod", "sqlite3.connect"}


def killed_at(step: int, folder: Path, *, is_encrypted: bool) -> bool:
    """Kill it before its call number `step` that opens or changes a file, and look at what it left;
    return whether it had come to its end."""
    place = record_in(folder, is_encrypted=is_encrypted)
    wanted = new_key(folder) if is_encrypted else None
    is_done = dies(step, lambda: encrypt_record(place, wanted, NOW_MS, nothing), CALLS)
    next_key = databases.next_key(place.key_path)
    is_changing = next_key.exists()
    found = is_plain(place.path)
    assert paused(place) == ["in-file", "in-log"]
    config = folder / "premblyd.yaml"
    config.write_text(CONFIG)
    told = run("check", "--config", config).err
    assert ("record encrypt`" in told) == (is_changing or found is True)
    if is_changing:
        assert f"was interrupted: there is {next_key}" in told
    again = encrypt_record(place, None, NOW_MS, nothing)
    assert paused(place) == ["in-file", "in-log"]
    assert is_plain(place.path) is False
    assert not next_key.exists()
    assert again.finished == (is_changing and keyfiles.read_key(place.key_path) == OTHER)
    assert (again.dropped is not None) == (is_changing and not again.finished)
    assert is_done <= (again == Encrypted())
    if keyfiles.read_key(place.key_path) == OTHER:
        assert keyfiles.read_key(place.key_path.with_name("database.key.old-1")) == KEY
    assert not beside(place.path, "-wal").exists()
    shutil.rmtree(folder)
    return is_done


@pytest.mark.process
def test_a_daemon_starts_in_the_middle_of_a_change_and_says_how_to_finish(tmp_path: Path) -> None:
    """If it crashes it leaves no core: that would hold the key, and what it knows of people."""
    place = record_in(tmp_path / "x", is_encrypted=True)
    place.key_path.rename(databases.next_key(place.key_path))
    place.key_path.write_text(OTHER)
    with Premblyd(tmp_path / "x", place=place) as daemon:
        daemon.configure()
        daemon.start()
        found = json.loads(run("status", "--json", "--config", daemon.config).out)["attention"]
        [told] = [each for each in found if each["kind"] == "key"]
        assert told["command"] == "sudo premblyd record encrypt"
        limits = Path(f"/proc/{daemon.process.pid}/limits").read_text().splitlines()
        [limit] = [each for each in limits if each.startswith("Max core file size")]
        assert limit.split()[4] == "0"
        daemon.stop(SIGSEGV)
        assert not [path for path in (tmp_path / "x").iterdir() if "core" in path.name]


def test_what_cannot_be_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = record_in(tmp_path / "plain", is_encrypted=False)
    coded = record_in(tmp_path / "coded", is_encrypted=True)
    wanted = new_key(tmp_path / "plain")
    before = [each.path.read_bytes() for each in (place, coded)]

    def refused(reason: str, kind: type[Exception], which: EncryptedFile, key: Any = None) -> None:
        with pytest.raises(kind, match=reason):
            encrypt_record(which, key, NOW_MS, nothing)
        assert [each.path.read_bytes() for each in (place, coded)] == before
        assert not any(beside(each.path, NEW).exists() for each in (place, coded))
        assert not databases.next_key(coded.key_path).exists()

    both = ((place, None), (coded, wanted))
    refused("is not encrypted yet", PremblydError, place, wanted)
    with monkeypatch.context() as patched:
        patched.setattr("premblyd.features.backup.taking.SPARE_BYTES", 1 << 60)
        for each, key in both:
            refused("is too small", PremblydError, each, key)
    with monkeypatch.context() as patched:
        patched.setattr("os.access", lambda *_, effective_ids=False: not effective_ids)
        refused("can't be replaced together", LacksRightsError, coded, wanted)
    coded.key_path.write_text("cd" * 32)
    refused("does not open", CannotStartError, coded, wanted)


READS = """import sys
from premblyd.store.sqlite import connecting
opened = connecting.connect(sys.argv[1], sys.argv[2:] or None)
opened.execute("SELECT * FROM event").fetchall()
print("reads", flush=True)
sys.stdin.read()
"""


@pytest.mark.process
@pytest.mark.parametrize("is_encrypted", [True, False])
def test_while_somebody_reads_the_record_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_encrypted: bool
) -> None:
    place = record_in(tmp_path / "x", is_encrypted=is_encrypted)
    monkeypatch.setattr("premblyd.features.backup.replacing.BUSY_TIMEOUT_S", 0)
    words = [sys.executable, "-c", READS, place.path.as_uri(), *([KEY] * is_encrypted)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"reads\n"
        with pytest.raises(TryAgainError, match="locked"):
            encrypt_record(
                place, new_key(place.path.parent) if is_encrypted else None, NOW_MS, nothing
            )
        other.communicate()
    assert paused(place) == ["in-file", "in-log"]


def test_a_next_key_that_opens_nothing_is_removed_and_none_that_may_is(tmp_path: Path) -> None:
    place = record_in(tmp_path / "x", is_encrypted=True)
    next_key = databases.next_key(place.key_path)
    next_key.write_text("no key")
    assert encrypt_record(place, None, NOW_MS, nothing).dropped == next_key
    place.key_path.write_text("cd" * 32)
    next_key.write_text(OTHER)
    with pytest.raises(CannotStartError, match="does not open"):
        encrypt_record(place, None, NOW_MS, nothing)
    assert next_key.read_text() == OTHER


@needs_root
@for_each("is_encrypted", [True, False])
def test_what_root_makes_is_the_services(tmp_path: Path, is_encrypted: bool) -> None:
    """The key's folder is root's, as /etc/premblyd is."""
    with folder() as at:  # into which others may go
        at.chmod(0o755)
        place = record_in(at / "state", is_encrypted=is_encrypted)
        for path in (place.path.parent, *place.path.parent.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        place = EncryptedFile(place.path, place.key_path.rename(at / "database.key"))
        wanted = new_key(tmp_path / "x") if is_encrypted else None
        if wanted is None:
            os.chown(place.key_path, 0, 0)
            place.key_path.chmod(0o600)  # as in credentials/
        encrypt_record(place, wanted, NOW_MS, nothing)
        files = [path for path in place.path.parent.iterdir() if "premblyd" in path.name]
        assert {path.stat().st_uid for path in files} == {NOBODY}
        assert len(files) >= 3
        assert place.key_path.stat().st_uid == (NOBODY if is_encrypted else 0)
        assert paused(place) == ["in-file", "in-log"]
        if wanted is None:
            with pytest.raises(PremblydError, match="can't be replaced together"):
                encrypt_record(place, new_key(tmp_path / "x"), NOW_MS, nothing)
        assert os.geteuid() == os.getegid() == 0


def test_init_makes_a_key_and_never_another_one(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    made = run("init", "--encryption", folder)
    key = folder / "database.key"
    assert (made.code, f"Made the key {key}" in made.out) == (0, True)
    assert (key.stat().st_mode & 0o777, len(keyfiles.read_key(key))) == (0o600, 64)
    first = key.read_text()
    (folder / "credentials").mkdir()
    (folder / "credentials" / "prembly-live-key").write_text("key")
    assert key_of(load_config(folder / "premblyd.yaml").database) == key
    again = run("init", "--encryption", folder)
    assert (again.code, "is there already, and was not changed" in again.out) == (1, True)
    assert "encryption: {key: {file: database.key}}" in again.err
    assert key.read_text() == first


def test_a_query_reads_an_encrypted_record_and_is_stopped_in_time(tmp_path: Path) -> None:
    """And `check` says once what a lost key costs, or that the default is plain."""
    place, config = configured(tmp_path / "x")
    assert json_of(config, "sql", PAUSED) == [{"action": "in-file"}, {"action": "in-log"}]
    endless = "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT max(n) FROM x"
    with closing(connect_read_only(place)) as database:
        stop = database.interrupter()
        database.connection().set_progress_handler(lambda: bool(stop()), 1000)
        with pytest.raises(PremblydError, match="interrupted"):
            database.ask(endless, 1)
    checked = run("check", "--config", config)
    assert checked.out.count(f"Without {place.key_path} it and its copies are lost") == 1
    shutil.copy(prepared_file(), place.path)
    beside(place.path, "-wal").unlink()
    config.write_text(json.dumps(PLAIN))
    assert run("check", "--config", config).out.count("not encrypted") == 1
    assert run("check", "--quiet", "--config", config).out == ""
