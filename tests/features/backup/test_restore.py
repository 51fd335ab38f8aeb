"""`premblyd record restore`: one whole record wherever it ends, and nobody in it who was erased."""

import itertools
import json
import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.backup import restoring, taking
from premblyd.features.keeping.erasurelines import NAME, own_file
from premblyd.features.postgresql.settings import Server
from premblyd.ground.databases import is_plain, key_of
from premblyd.store.sqlite.engine import SqliteBackend
from premblyd.store.sqlite.files import MODE, NEW, REPLACING, beside, put_aside
from tests.faults.daemon import folder
from tests.support.commands import json_of, record, run, run_process
from tests.support.configuration import configuration
from tests.support.copies import (
    change,
    configured,
    copied,
    encrypt,
    erase,
    erased,
    place_of,
    put,
    remember,
    remove,
    rows,
)
from tests.support.daemon import Premblyd
from tests.support.database import prepared_file
from tests.support.dying import dies
from tests.support.needs import needs_root
from tests.support.store import store_at
from tests.support.users import NOBODY

pytestmark = pytest.mark.sqlite  # all but one are about its file
OTHER_KEY = "0ddba11" * 9 + "0"


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The configuration of a stopped daemon's record."""
    return configured(tmp_path / "here", is_encrypted=request.param)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return configured(tmp_path / "here", is_encrypted=False)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder for copies."""
    folder = tmp_path / "copies"
    folder.mkdir(0o700)
    return folder


def restore(config: Path, *arguments: object) -> Any:
    return json_of(config, "record", "restore", *arguments, "--yes")


def refused(config: Path, *arguments: object) -> str:
    """Return why a copy is refused; nothing was changed then."""
    kept = contents(config.parent)
    ran = run("record", "restore", *arguments, "--yes", "--config", config)
    assert (ran.code, "Nothing was changed" in ran.err) == (1, True), ran
    assert contents(config.parent) == kept
    return ran.err


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files but those that SQLite and the lock leave, empty, when one is opened."""
    left = ("-shm", "-wal", ".lock")
    files = [file for file in folder.iterdir() if not file.name.endswith(left)]
    return {file.name: file.read_bytes() for file in files}


def test_the_record_is_that_of_the_copy_and_the_old_file_is_kept(config: Path, there: Path) -> None:
    copy, database = copied(config, there), config.with_name("premblyd.db")
    [(before,)] = rows(config, "SELECT count(*) FROM event")
    change(config, "DELETE FROM attempt")
    change(config, "UPDATE event SET detail = 'since'")
    told = restore(config, there)
    assert rows(config, "SELECT count(*) FROM event WHERE detail = 'since'") == [(0,)]
    assert rows(config, "SELECT count(*) FROM event") == [(before,)]
    [kept] = put_aside(database)
    assert (told["copy"], told["kept"]) == (str(copy), str(kept))
    assert is_plain(database) is is_plain(kept)
    assert database.stat().st_mode & 0o777 == MODE
    left = {database.name, kept.name, f"{database.name}.lock"}
    assert {file.name for file in config.parent.glob("premblyd.db*")} == left


@pytest.mark.parametrize("known_by", ["database", "own file", "folder"])
def test_who_was_erased_since_does_not_come_back(plain: Path, there: Path, known_by: str) -> None:
    copy, database = copied(plain, there), plain.with_name("premblyd.db")
    assert restore(plain, there)["erased_again"] == {"erasures": 0, "events": 0}
    erase(plain, 2)
    remember(plain, there)
    for name, file in {"own file": own_file(database), "folder": there / NAME}.items():
        if name != known_by:
            file.unlink()
    if known_by != "database":
        remove(database)
        database.write_bytes(b"damaged beyond reading")
    told = restore(plain, copy)
    assert (erased(plain), told["erased_again"]["events"]) == ([2], 1)
    assert told["knows_erasures"] is (known_by != "folder")
    assert told["newest_erasure_ms"] == rows(plain, "SELECT at_ms FROM erasure")[0][0]


def test_on_another_machine_the_folder_is_enough(tmp_path: Path, config: Path, there: Path) -> None:
    """The copy is of Monday, the erasure of Tuesday; then the first machine is lost. Tuesday's is
    in each folder with copies, though the copy is older than what its record noted of them."""
    is_encrypted = key_of(place_of(config)) is not None
    monday = copied(config, there)
    (other := tmp_path / "other").mkdir(0o700)
    copied(config, other)
    restore(config, monday)
    erase(config, 2)
    lost = "-".join([*monday.name.split("-")[:2], "000000001000", *monday.name.split("-")[3:]])
    (there / lost).write_bytes(b"of Wednesday, and lost")
    shutil.rmtree(config.parent)
    for copies in (there, other):
        second = configured(tmp_path / f"of-{copies.name}", is_encrypted=is_encrypted)
        remove(second.with_name("premblyd.db"))
        if copies == there:
            refused(second, there)
        told = restore(second, monday if copies == there else other)
        assert (erased(second), told["kept"], told["knows_erasures"]) == ([2], None, False)
        if copies == there:
            numbers = rows(second, "SELECT seq FROM sqlite_sequence WHERE name = 'event'")
            assert numbers == [(1000,)]


def test_a_record_that_has_nothing_yet_gives_way_and_another_only_if_that_is_meant(
    tmp_path: Path, plain: Path, there: Path
) -> None:
    copied(plain, there)
    erase(plain, 2)
    second = configured(tmp_path / "second", is_encrypted=False)
    change(second, "UPDATE record SET record_id = 'ffffffff'")
    erase(second, 3)
    assert "add `--record new`" in refused(second, there)
    told = restore(second, there, "--record", "new")
    assert erased(second) == [2], "not 3, of the other record"
    assert rows(second, "SELECT record_id FROM record") == [(told["record"],)]
    put(prepared_file(), second.with_name("premblyd.db"))
    assert restore(second, there)["erased_again"]["events"] == 1


def test_a_copy_may_be_older_than_the_encryption_or_the_key(plain: Path, there: Path) -> None:
    """With encryption a plain one is encrypted on its way; without, an encrypted one is refused."""
    count, settings = "SELECT count(*) > 0 FROM event", plain.read_text()
    of_plain, key, database = copied(plain, there), plain.with_name("database.key"), place_of(plain)
    assert isinstance(database, Path)
    encrypt(plain)
    restore(plain, of_plain)
    assert is_plain(database) is False
    assert rows(plain, "PRAGMA integrity_check") == [("ok",)]
    copy, old = copied(plain, there), Path(shutil.copy(key, there / "old.key"))
    key.write_text(OTHER_KEY)
    assert "`--key FILE` names that" in refused(plain, copy)
    restore(plain, copy, "--key", old)
    assert rows(plain, count) == [(1,)]
    assert key.read_text() == OTHER_KEY
    plain.write_text(settings)
    put(prepared_file(), database)
    assert "an encrypted copy can't be put in" in refused(plain, copy)


def test_what_is_cut_or_flipped_is_refused(config: Path, there: Path) -> None:
    """What has another name has no digest there, and is looked through."""
    copy = copied(config, there)
    whole, chance = copy.read_bytes(), random.Random(0)
    for _ in range(9):
        content = bytearray(whole)
        content[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        copy.write_bytes(content)
        refused(config, copy)
    other = there / "monday.db"
    for file in (copy, other):
        for at in (0, len(whole) // 2):
            file.write_bytes(whole[:at])
            refused(config, file)
    other.write_bytes(whole)
    assert run("record", "restore", other, "--yes", "--config", config).code == 0


def test_however_the_old_one_is_damaged_a_copy_takes_its_place(config: Path, there: Path) -> None:
    copied(config, there)
    database = config.with_name("premblyd.db")
    whole, chance = database.read_bytes(), random.Random(0)
    named = max(whole.find(b"sqlite_autoindex_"), 0)  # what SQLite says of it is no UTF-8 then
    for at in (named + 8, *(chance.randrange(len(whole)) for _ in range(2))):
        remove(database)
        database.write_bytes(whole[:at] + b"\xf2\xf2\xf2\xf2" + whole[at + 4 :])
        restore(config, there, "--record", "new")
        assert rows(config, "PRAGMA integrity_check") == [("ok",)]


def test_what_is_no_copy_is_refused(
    plain: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "has no copy" in refused(plain, there)
    copy = copied(plain, there)
    (there / "link.db").symlink_to(copy)
    refused(plain, there / "link.db")
    os.mkfifo(there / "fifo.db")
    assert "no regular file" in refused(plain, there / "fifo.db")
    with monkeypatch.context() as patched:
        patched.setattr("premblyd.features.backup.taking.SPARE_BYTES", 1 << 60)
        assert "is too small" in refused(plain, copy)
    assert "No such file" in refused(plain, there / "gone.db")
    (there / f"{copy.name}-wal").write_bytes(b"x")
    assert "has a log beside it" in refused(plain, copy)
    (there / f"{copy.name}-wal").unlink()
    for sql, words in {
        "UPDATE record SET schema_digest = 'x'": "made by another build",
        "UPDATE record SET schema_number = 99, schema_digest = 'x'": "made by a newer version",
        "DROP TABLE record": "no such table: record",
    }.items():
        other = Path(shutil.copy(copy, there / "other.db"))
        with closing(sqlite3.connect(other)) as database, database:
            database.execute(sql)
        assert words in refused(plain, other)
    foreign = copy.name.replace(copy.name[9:17], "ffffffff")
    shutil.copy(copy, there / foreign)
    assert restore(plain, there)["copy"] == str(copy)
    remove(plain.with_name("premblyd.db"))
    assert "copies of several records" in refused(plain, there)


def test_numbers_go_on_above_the_highest_that_was_given(plain: Path, there: Path) -> None:
    """One that no event ever had does not use up the numbers."""
    copy = copied(plain, there)
    change(plain, "UPDATE sqlite_sequence SET seq = seq + 1000")
    before = dict(rows(plain, "SELECT name, seq FROM sqlite_sequence"))
    _, record, _, *others = copy.name.split("-")
    for number in (str(2**63 - 1), "9" * 19):
        (there / "-".join(["premblyd", record, number, *others])).touch()
    line = {"record": record, "at_ms": 1, "number": 1, "event_id": 2**63 - 1}
    text = json.dumps(line | {"key": "k", "found_by": "event", "actor": "a"})
    (there / NAME).write_text(f"{text}\n")
    restore(plain, copy)
    after = dict(rows(plain, "SELECT name, seq FROM sqlite_sequence"))
    assert before.pop("operator_action") < after.pop("operator_action"), "that it was put in"
    assert after == before


def test_status_says_what_was_put_back_and_erase_what_it_leaves(plain: Path, there: Path) -> None:
    def told() -> dict[str, Any]:
        found = json.loads(run("status", "--json", "--config", plain).out)["attention"]
        return {item["kind"]: item for item in found}

    copied(plain, there)
    asks = run("record", "restore", there, "--config", plain)
    assert (asks.code, "add --yes" in asks.err) == (2, True)
    [(waiting,)] = rows(plain, "SELECT count(*) FROM delivery WHERE state = 'pending'")
    assert f"{waiting} deliver" in asks.err, "so many will run"
    assert put_aside(plain.with_name("premblyd.db")) == []
    restore(plain, there)
    assert json_of(plain, "pause", "ask-compliance")["waiting"] > 0
    [kept] = put_aside(plain.with_name("premblyd.db"))
    by_kind = told()
    assert str(kept) in by_kind["put_aside"]["text"]
    ran = run("person", "erase", "--event", 2, "--yes", "--config", plain)
    assert str(kept) in ran.err
    kept.unlink()
    assert "put_aside" not in told()


@pytest.mark.process
def test_until_the_copy_is_there_no_command_writes_into_the_old_file(
    plain: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(plain, there)
    told, replace = [], os.replace

    def tries(*each: Any) -> None:
        told.append(run_process("pause", "ask-compliance", "--config", plain))
        replace(*each)

    monkeypatch.setattr("os.replace", tries)
    restore(plain, there)
    assert [(ran.code, "database is locked" in ran.err) for ran in told] == [(75, True)]
    assert rows(plain, "PRAGMA integrity_check") == [("ok",)]


def test_what_was_put_in_by_hand_is_erased_again_in_its_place(plain: Path, there: Path) -> None:
    copy = copied(plain, there)
    erase(plain, 2)
    put(copy, plain.with_name("premblyd.db"))
    assert erased(plain) == []
    told = json_of(plain, "record", "restore", "--erase-again")
    assert (told["erased_again"]["events"], erased(plain)) == (1, [2])
    assert run("record", "restore", "--erase-again", copy, "--config", plain).code == 2


@pytest.mark.process
@pytest.mark.parametrize("is_readable", [True, False])
def test_wherever_it_is_killed_there_is_one_whole_record_and_again_ends_it(
    tmp_path: Path, plain: Path, there: Path, is_readable: bool
) -> None:
    copied(plain, there)
    change(plain, "UPDATE event SET detail = 'since'")
    erase(plain, 2)
    for step in itertools.count():
        config = tmp_path / f"{step}" / plain.name
        shutil.copytree(plain.parent, config.parent)
        database = config.with_name("premblyd.db")
        if not is_readable:
            put(there / NAME, database)

        def put_back(config: Path = config) -> None:
            assert run("record", "restore", there, "--yes", "--config", config).code == 0

        is_done = dies(step, put_back, ("os.rename", "os.link", "os.remove"))
        if is_readable:
            with SqliteBackend(database).hold():  # a daemon can start
                assert rows(config, "PRAGMA integrity_check") == [("ok",)]
            assert erased(config) == [2]
        put_back()
        assert rows(config, "SELECT count(*) FROM event WHERE detail = 'since'") == [(0,)]
        assert erased(config) == [2]
        assert not beside(database, NEW).exists()
        if is_done:
            break
    assert step > 4


@pytest.mark.process
@pytest.mark.promise
def test_a_daemon_works_on_with_what_was_put_back(daemon: Premblyd, there: Path) -> None:
    daemon.start()
    assert daemon.send(b'{"response_code": "00"}', token="t-1").status == 200
    json_of(daemon.config, "record", "backup", there)
    assert daemon.send(b'{"response_code": "02"}', token="t-2").status == 200
    while_it_runs = run("record", "restore", there, "--yes", "--config", daemon.config)
    assert (while_it_runs.code, "Another premblyd uses" in while_it_runs.err) == (75, True)
    assert daemon.stop() == 0
    restore(daemon.config, there)
    daemon.start()
    assert daemon.send(b'{"response_code": "03"}', token="t-3").status == 200
    assert daemon.rows("SELECT id, response_code FROM event") == [(1, "00"), (3, "03")]
    assert daemon.stop() == 0


@pytest.mark.process
@needs_root
def test_what_root_puts_back_is_the_services_though_the_copy_is_roots(tmp_path: Path) -> None:
    """It replaces nothing that a link of the service's leads to."""
    with folder() as at:  # into which others may go
        at.chmod(0o755)
        config, copies = record(at), tmp_path / "copies"
        copies.mkdir(0o700)
        (copy := copied(config, copies)).chmod(0o600)
        (others := tmp_path / "others").write_text("root's own")
        database = config.with_name("premblyd.db")
        remove(database)
        for code in (1, 0):
            if code:
                database.symlink_to(others)
            for path in (at, *at.iterdir()):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
            ran = run_process("record", "restore", copy, "--yes", "--config", config)
            assert (ran.code, "Nothing was changed" in ran.err) == (code, code == 1), ran.err
            assert others.read_text() == "root's own"
            assert {file.name for file in tmp_path.iterdir()} == {"copies", "others"}
            if code:
                database.unlink()
        files = [file for file in at.iterdir() if file.name.startswith("premblyd.db")]
        assert len(files) >= 2
        assert {file.stat().st_uid for file in files} == {NOBODY}


def test_a_copy_that_is_exchanged_while_it_is_opened_is_refused(
    plain: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whom root reads for: SQLite opens it by its name."""
    copy, source = copied(plain, there), taking.Source
    shutil.copy(prepared_file(), other := there / "other.db")

    def exchanged(*each: Any) -> Any:
        copy.rename(kept := there / "kept")
        other.rename(copy)
        opened = source(Path(os.path.realpath(copy)), each[1])
        copy.rename(other)
        kept.rename(copy)
        return opened

    monkeypatch.setattr(restoring, "Source", exchanged)
    assert "Somebody has replaced" in refused(plain, copy)


@pytest.mark.process
def test_until_a_half_done_one_is_done_every_command_names_that(plain: Path, there: Path) -> None:
    copied(plain, there)
    database = plain.with_name("premblyd.db")
    put(there / NAME, database)
    beside(database, REPLACING).write_text(f"{database.name}.before-20260101T000000")
    for words in (["status"], ["check"], ["events"], ["serve"]):
        ran = run_process(*words, "--config", plain)
        assert (ran.code, "premblyd record restore" in ran.out + ran.err) == (78, True), ran
    assert restore(plain, there)["kept"] == f"{database}.before-20260101T000000"
    assert run("events", "--config", plain).code == 0


@pytest.mark.postgresql
def test_on_a_server_only_erasing_again_is_possible(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    config = tmp_path / "premblyd.yaml"
    config.write_text(json.dumps(configuration(database=server.url)))
    with store_at(server) as store:
        store.add()
        erase(config, 1)
        store.by_hand("UPDATE event SET removed_parts = NULL, body = 'back'")
        store.by_hand("DELETE FROM erased_event")
        store.by_hand("DELETE FROM erased_name")
        ran = run("record", "restore", tmp_path, "--yes", "--config", config)
        assert (ran.code, "pg_restore" in ran.err) == (1, True)
        assert json_of(config, "record", "restore", "--erase-again")["erased_again"]["events"] == 1
        assert store.rows("SELECT body, removed_parts FROM event") == [(None, "erased")]
