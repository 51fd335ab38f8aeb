"""With `encryption` a copy of the record has no keys of events: these are in a copy of their own,
of which only the newest is kept. So what is erased today, yesterday's copy opens no more."""

import asyncio
import base64
import json
import os
import re
import signal
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pyrage
import pytest

from premblyd import times
from premblyd.backup import keys, upkeep
from premblyd.backup.upkeep import KeysUpkeep
from premblyd.config.load import load_config
from premblyd.engines.connections import backend, connect_operator, connect_read_only
from premblyd.engines.sqlite import pages
from premblyd.keep import erasing, keycopies
from premblyd.keep.erasing import Request
from premblyd.keep.persons import Named
from premblyd.seal.starting import require_keys
from premblyd.vault import Cipher, DamagedError, DataKey, Vault
from premblyd.verifications.digests import seal_key
from tests.support.commands import Ran, run
from tests.support.database import changing, rows
from tests.support.forking import Forked
from tests.support.rows import for_each
from tests.support.sealing import KEY, OTHER_KEY, VAULT
from tests.support.store import Store, store_at

pytestmark = pytest.mark.sqlite
IDENTITY = pyrage.x25519.Identity.generate()
RECIPIENT = str(IDENTITY.to_public())
PEOPLE = ("amina", "tunde", "chidi")
SEALED = "SELECT key FROM event JOIN event_key USING (id)"
WRAPPED = "SELECT wrapped FROM event_key ORDER BY id"
CHUNK_FILES = "premblyd-keys-[0-9]*.age"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a record that is sealed, of three people."""
    at = tmp_path / "record"
    at.mkdir()
    place = at / "premblyd.db"
    backend(place, VAULT).prepare()
    with store_at(place, VAULT) as store:
        store.wait(store.writer.call(seal_key))
        for name in PEOPLE:
            add(store, name)
    for name, key in (("first", KEY), ("second", OTHER_KEY)):
        (at / name).write_text(key)
        (at / name).chmod(0o600)
    (tmp_path / "identity").write_text(f"{IDENTITY}\n")
    for name in ("copies", "keys"):
        (tmp_path / name).mkdir(mode=0o700)
    path = at / "premblyd.yaml"
    configure(path)
    return path


def add(store: Store, name: str) -> None:
    store.add(
        body=b'{"name": "hush-%s"}' % name.encode(),
        reference=f"ref-{name}",
        user_ref=f"user-{name}",
        session_id=f"session-{name}",
    )


def configure(path: Path, **changes: Any) -> None:
    """Write the configuration; `changes` are of what is at its top, None: without it."""
    folder = path.parents[1] / "keys"
    settings = {
        "database": "sqlite:///premblyd.db",
        "endpoints": [{"name": "prembly", "path": "/prembly", "keys": {"live": "k"}}],
        "encryption": {"key": {"file": "first"}},
        "backup": {"recipients": [RECIPIENT], "keys": str(folder)},
        **changes,
    }
    path.write_text(json.dumps({name: each for name, each in settings.items() if each is not None}))


@pytest.fixture
def database(config: Path) -> Path:
    return config.with_name("premblyd.db")


@pytest.fixture
def to(config: Path) -> Path:
    return config.parents[1] / "copies"


@pytest.fixture
def kept(config: Path) -> Path:
    return config.parents[1] / "keys"


def back_up(config: Path, to: Path) -> Path:
    done = run("backup", to, "--config", config)
    assert done.code == 0, done.err
    match = re.match(r"Copied the record to (\S+): ", done.out)
    assert match
    return Path(match[1])


def erase(config: Path, name: str) -> Ran:
    return run("erase", "--user-ref", f"user-{name}", "--yes", "--config", config)


def restore(config: Path, *more: object) -> Ran:
    to, identity = (config.parents[1] / name for name in ("copies", "identity"))
    return run("restore", to, "--identity", identity, *more, "--config", config)


def opened(copy: Path) -> bytes:
    found: bytes = pyrage.decrypt(copy.read_bytes(), [IDENTITY])
    return found


def secrets_in(kept: Path) -> dict[str, str]:
    """Return the keys that the keys' copy has, by events' keys."""
    found: dict[str, str] = {}
    for path in kept.glob(CHUNK_FILES):
        found |= json.loads(opened(path))["keys"]
    return found


KILLED = """
import os
from pathlib import Path
from premblyd.keep import keycopies
calls = []

def kill(*_, **named):
    calls.append(None)
    if len(calls) == {at}:
        os.kill(os.getpid(), 9)
    return original(*_, **named)

original, {where} = {where}, kill
"""


def killed(where: str, at: int, *arguments: object) -> None:
    """Run a command that is killed where it calls a function for the nth time."""
    before = KILLED.format(where=where, at=at)
    with Forked(arguments, before=before) as process:
        assert process.wait() == -signal.SIGKILL


def key_of(database: Path, name: str) -> str:
    [(key,)] = rows(database, "SELECT key FROM event WHERE user_ref = ?", f"user-{name}")
    return str(key)


def shown(config: Path, number: int) -> str:
    return run("show", number, "--reveal", "--config", config).out


def test_a_copy_has_no_key_of_an_event_and_is_whole(
    config: Path, database: Path, to: Path, tmp_path: Path
) -> None:
    wrapped = [bytes(each) for (each,) in rows(database, WRAPPED)]
    plain = tmp_path / "opened.db"
    plain.write_bytes(opened(back_up(config, to)))
    assert len(wrapped) == len(PEOPLE)
    assert not [each for each in wrapped if each in plain.read_bytes()]
    assert not [each for each in wrapped if each[:16] in plain.read_bytes()]
    assert rows(plain, "PRAGMA integrity_check") == [("ok",)]
    assert rows(plain, "SELECT id, data_key FROM event_key ORDER BY id") == rows(
        database, "SELECT id, data_key FROM event_key ORDER BY id"
    )


@pytest.mark.parametrize("shows_pages", [True, False])
def test_of_keys_that_fill_many_pages_and_of_those_that_went_none_is_in_it(
    config: Path, database: Path, to: Path, monkeypatch: pytest.MonkeyPatch, shows_pages: bool
) -> None:
    """Also by an SQLite without sqlite_dbpage, such as Debian 12's."""
    if not shows_pages:
        monkeypatch.setattr(pages, "can_clear", lambda _: False)
    filler = [[10 + number, "0" * 16, b"K" * 50 + b"%010d" % number] for number in range(3000)]
    with changing(database) as connection:
        connection.execute("PRAGMA secure_delete = off")
        for row in filler:
            connection.execute(
                "INSERT INTO event_key (id, data_key, wrapped) VALUES (?, ?, ?)", row
            )
        connection.execute("DELETE FROM event_key WHERE id % 3 = 0 AND id > 3")
    assert b"KKKK" in database.read_bytes()
    copy = to / "copy.db"
    with copy.open("wb") as out:
        backend(database).write_copy(out, lambda _: None, without_keys=True)
    assert b"KKKK" not in copy.read_bytes()
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    assert rows(copy, "SELECT count(*) FROM event_key") == rows(
        database, "SELECT count(*) FROM event_key"
    )


def test_the_keys_are_beside_for_their_owner_alone_and_sealed(
    config: Path, database: Path, to: Path, kept: Path
) -> None:
    done = run("backup", to, "--json", "--config", config)
    assert done.code == 0
    assert json.loads(done.out)["keys"] == len(PEOPLE)
    assert sorted(path.name for path in kept.iterdir()) == [
        "premblyd-keys-000000.age",
        "premblyd-keys-erased.age",
        "premblyd-keys.json",
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.iterdir()} == {0o600}
    found = secrets_in(kept)
    assert set(found) == {key for (key,) in rows(database, SEALED)}
    for secret in found.values():
        raw = base64.b64decode(secret)
        assert not [path for path in kept.iterdir() if raw in path.read_bytes()]


def test_without_recipients_or_a_folder_nothing_is_copied(config: Path, to: Path) -> None:
    for lacking in (None, {"recipients": [RECIPIENT]}, {"keys": str(to.with_name("keys"))}):
        configure(config, backup=lacking)
        done = run("backup", to, "--config", config)
        assert (done.code, done.out) == (1, "")
        assert "With `encryption` a copy has none of the keys that open it" in done.err
    configure(config, backup={"recipients": [RECIPIENT], "keys": str(to)})
    assert "copy the record into another folder" in run("backup", to, "--config", config).err
    configure(config, encryption=None)
    done = run("backup", to, "--config", config)
    assert done.code == 78
    assert "`encryption: {key: …}` must name" in done.err
    configure(config, encryption={"key": {"file": "nowhere"}})
    assert "which this user may not read" in run("backup", to, "--config", config).err
    assert list(to.iterdir()) == []


def test_nothing_is_copied_where_keys_can_not_be_written(
    config: Path, to: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a sandbox that shows the folder, and may not write to it."""
    monkeypatch.setattr(os, "access", lambda path, _: path != kept)
    done = run("backup", to, "--config", config)
    assert (done.code, done.out) == (1, "")
    assert f"You may not write into {kept}. Nothing was copied." in done.err
    assert list(to.iterdir()) == []


def test_yesterdays_copy_and_the_newest_keys_have_nothing_of_who_was_erased_today(
    config: Path, database: Path, to: Path, kept: Path, tmp_path: Path
) -> None:
    copy = back_up(config, to)
    key = key_of(database, "tunde")
    assert key in secrets_in(kept)
    done = erase(config, "tunde")
    assert (done.code, json.loads(done.out)["keys_renewed"]) == (0, True)
    assert key not in secrets_in(kept)
    plain = tmp_path / "opened.db"
    plain.write_bytes(opened(copy))
    assert openable(plain, secrets_in(kept)) == {"amina", "chidi"}
    assert b"hush-tunde" not in b"".join(path.read_bytes() for path in database.parent.iterdir())
    done = restore(config)
    assert done.code == 0, done.err
    assert "The keys' copy opens of it 2 events." in done.out
    with closing(sqlite3.connect(database)) as connection:
        everything = "\n".join(connection.iterdump())
    for mark in ("tunde", b"tunde".hex(), base64.b64encode(b"hush-tunde").decode()):
        assert mark not in everything
    assert b"tunde" not in database.read_bytes()
    assert rows(database, "SELECT lacks FROM event ORDER BY id") == [(None,), ("erased",), (None,)]
    assert "hush-amina" in shown(config, 1)
    assert "hush-chidi" in shown(config, 3)


def openable(copy: Path, secrets: dict[str, str]) -> set[str]:
    """Return whose bodies in a copy can be opened by any of these keys."""
    found = set()
    for key, body in rows(copy, "SELECT key, body FROM event"):
        for secret in secrets.values():
            try:
                text = Cipher(key, base64.b64decode(secret)).open("event.body", bytes(body))
            except DamagedError:
                continue
            found.add(json.loads(text)["name"].removeprefix("hush-"))
    return found


def test_a_lost_database_is_put_back_under_a_new_data_key(
    config: Path, database: Path, to: Path, kept: Path
) -> None:
    back_up(config, to)
    assert erase(config, "tunde").code == 0
    for path in [*database.parent.glob("premblyd.db*"), config.with_name("first")]:
        path.unlink()
    configure(config, encryption={"key": {"file": "second"}})
    done = restore(config)
    assert done.code == 0, done.err
    assert "Erased from it again who was erased since it was made: 1 event of 1 erasure" in done.out
    made_at_ms = json.loads((kept / keys.INDEX).read_text())["made_at_ms"]
    since = f"since {times.for_people(made_at_ms)} UTC, when the keys' copy was made"
    assert f"Who was erased or held {since}, is not known (there was no database" in done.out
    assert "hush-amina" in shown(config, 1)
    second = DataKey.read(OTHER_KEY).id
    assert rows(database, "SELECT DISTINCT data_key FROM event_key") == [(second,)]
    vault = Vault(DataKey.read(OTHER_KEY))
    with store_at(database, vault) as store:
        store.add(body=b"later", reference="ref-tunde")
    assert rows(database, "SELECT lacks FROM event WHERE id = 4") == [("erased",)]
    with closing(connect_read_only(database, vault)) as record:
        require_keys(record)


def test_a_lost_data_key_leaves_unknown_who_was_erased_since_the_keys_copy(
    config: Path, to: Path
) -> None:
    """The database that is replaced is there, and can't be asked by a name."""
    back_up(config, to)
    configure(config, encryption={"key": {"file": "second"}})
    done = restore(config)
    assert done.code == 0, done.err
    assert "when the keys' copy was made, is not known (What that needs is sealed" in done.out


def test_no_older_copy_goes_for_one_whose_keys_are_in_no_copy(
    config: Path, database: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = back_up(config, to)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys, "_write", full)
    done = run("backup", to, "--keep", 1, "--config", config)
    assert (done.code, done.out) == (1, "")
    assert "its events' keys are in no copy yet, so that it can't be opened" in done.err
    assert older.exists()
    recorded = rows(database, "SELECT note FROM operator_action WHERE action = 'backup'")
    assert recorded == [(f"{older.name}, sealed",)]  # `status` tells when no other one comes


def test_an_event_whose_key_a_period_took_is_erased_too(
    config: Path, database: Path, to: Path
) -> None:
    copy = back_up(config, to)
    with changing(database) as connection:
        its = "(SELECT id FROM event WHERE key = ?)"
        connection.execute(f"DELETE FROM event_key WHERE id IN {its}", [key_of(database, "chidi")])
    told = run("backup", to, "--config", config).out
    assert told.endswith("It has no events' keys: the keys' copy has 2 keys.\n")
    done = restore(config, "--copy", copy.name)
    assert done.code == 0, done.err
    assert "Erased from it, since their keys are gone from there: 1 event." in done.out
    assert rows(database, "SELECT id FROM event WHERE lacks = 'erased'") == [(3,)]
    assert b"ref-chidi" not in database.read_bytes()
    assert rows(database, "SELECT found_by, events FROM erasure") == [("event", 1)]


def test_nothing_is_put_in_without_keys_that_fit(
    config: Path, database: Path, to: Path, kept: Path, tmp_path: Path
) -> None:
    back_up(config, to)
    before = database.read_bytes()
    index = kept / keys.INDEX
    listed = index.read_text()

    def refused(words: str, *more: object) -> None:
        done = restore(config, *more)
        assert (done.code, done.out) == (1, "")
        assert words in done.err
        assert database.read_bytes() == before

    (tmp_path / "empty").mkdir()
    refused("has no copy of events' keys", "--keys", tmp_path / "empty")
    index.write_text(listed.replace('"newest_event_id": 3', '"newest_event_id": 2'))
    refused("is older than the copy of the record")
    index.write_text(listed)
    [chunk] = kept.glob(CHUNK_FILES)
    whole = chunk.read_bytes()
    chunk.write_bytes(pyrage.encrypt(b'{"keys": {}}', [IDENTITY.to_public()]))
    refused("has the key of no event of the copy")
    others = dict.fromkeys(json.loads(pyrage.decrypt(whole, [IDENTITY]))["keys"], "A" * 43 + "=")
    text = json.dumps({"keys": others}).encode()
    chunk.write_bytes(pyrage.encrypt(text, [IDENTITY.to_public()]))
    refused("has other keys than those by which the copy was sealed")
    chunk.unlink()
    refused("The keys' copy is not whole")
    chunk.write_bytes(whole)
    erased = kept / keys.ERASED
    other = json.loads(opened(erased)) | {"digest_key": base64.b64encode(bytes(32)).decode()}
    erased.write_bytes(pyrage.encrypt(json.dumps(other).encode(), [IDENTITY.to_public()]))
    refused("is of another record")


def test_where_the_folder_is_not_there_erase_says_so_and_ends_it_later(
    config: Path, database: Path, to: Path, kept: Path
) -> None:
    back_up(config, to)
    away = kept.rename(kept.with_name("away"))
    done = erase(config, "tunde")
    assert done.code == 75
    assert json.loads(done.out)["keys_renewed"] is False
    assert f"There is no folder {kept}." in done.err
    with closing(connect_read_only(database, VAULT)) as record:
        assert record.look(keycopies.is_due)
    assert erase(config, "tunde").code == 75
    away.rename(kept)
    done = erase(config, "tunde")
    assert (done.code, done.err) == (0, "")
    assert has_those_of(database, kept)
    with closing(connect_read_only(database, VAULT)) as record:
        assert not record.look(keycopies.is_due)


def test_who_is_erased_while_it_is_renewed_is_due_still(
    database: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(named=Named.user("user-tunde"), actor="dpo")
    with (
        closing(connect_operator(database, VAULT)) as renewing,
        closing(connect_operator(database, VAULT)) as other,
    ):
        looked = renewing.look

        def look(work: Any) -> Any:
            found = looked(work)
            if work is keycopies.chunks:
                erasing.erase(other, request)
            return found

        monkeypatch.setattr(renewing, "look", look)
        assert keys.renew(renewing, kept, [RECIPIENT]).erasure_id == 0


def has_those_of(database: Path, kept: Path) -> bool:
    return set(secrets_in(kept)) == {key for (key,) in rows(database, SEALED)}


def test_only_portions_that_have_changed_are_written_anew(
    config: Path, database: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keycopies, "IN_A_CHUNK", 2)
    assert renewed(database, kept) == 2  # of keys 1, and 2 and 3
    assert renewed(database, kept) == 0
    with store_at(database, VAULT) as store:
        add(store, "ngozi")
    assert renewed(database, kept) == 1
    with changing(database) as connection:
        connection.execute("DELETE FROM event_key WHERE id = 2")
    assert renewed(database, kept) == 1
    assert has_those_of(database, kept)
    with changing(database) as connection:
        connection.execute("DELETE FROM event_key WHERE id = 1")
    assert renewed(database, kept) == 0  # its portion has no key any more
    assert not (kept / "premblyd-keys-000000.age").exists()
    assert has_those_of(database, kept)
    other = str(pyrage.x25519.Identity.generate().to_public())
    with closing(connect_operator(database, VAULT)) as record:
        assert keys.renew(record, kept, [RECIPIENT, other]).written == 2


def renewed(database: Path, kept: Path) -> int:
    with closing(connect_operator(database, VAULT)) as record:
        return keys.renew(record, kept, [RECIPIENT]).written


def test_keys_that_came_since_a_copy_was_put_back_are_in_it_though_they_are_as_many(
    config: Path, database: Path, to: Path, kept: Path
) -> None:
    back_up(config, to)
    with store_at(database, VAULT) as store:
        add(store, "ngozi")
    assert renewed(database, kept) == 1
    assert restore(config).code == 0  # where the fourth is not
    with store_at(database, VAULT) as store:
        add(store, "emeka")
    assert renewed(database, kept) == 1
    assert has_those_of(database, kept)


def test_where_one_key_went_and_an_older_event_was_sealed_its_portion_is_written_anew(
    database: Path, kept: Path
) -> None:
    with changing(database) as connection:
        [row] = connection.execute("SELECT id, data_key, wrapped FROM event_key WHERE id = 1")
        connection.execute("DELETE FROM event_key WHERE id = 1")
    assert renewed(database, kept) == 1
    with changing(database) as connection:
        connection.execute("DELETE FROM event_key WHERE id = 2")
        added = "INSERT INTO event_key (id, data_key, wrapped) VALUES (?, ?, ?)"
        connection.execute(added, list(row))
    assert renewed(database, kept) == 1
    assert has_those_of(database, kept)


def test_what_a_period_has_removed_goes_from_the_keys_too(
    config: Path, database: Path, to: Path, kept: Path
) -> None:
    back_up(config, to)
    configure(config, retention={"identity": "1y"})
    done = run("prune", "--yes", "--config", config)
    assert (done.code, done.err) == (0, "")
    assert rows(database, "SELECT count(*) FROM event WHERE lacks = 'identity'") == [(3,)]
    assert secrets_in(kept) == {}


def test_a_run_that_is_killed_leaves_keys_that_are_whole_and_the_next_ends_it(
    config: Path, database: Path, to: Path, kept: Path
) -> None:
    back_up(config, to)
    before = secrets_in(kept)
    killed("Path.rename", 2, "erase", "--user-ref", "user-tunde", "--yes", "--config", config)
    assert rows(database, "SELECT lacks FROM event WHERE id = 2") == [("erased",)]
    assert secrets_in(kept) == before
    assert len(list(kept.glob(".premblyd-*.part"))) == 1
    assert erase(config, "tunde").code == 0
    assert has_those_of(database, kept)
    assert not list(kept.glob(".premblyd-*.part"))


@for_each(("where", "at"), [("keycopies._give", 1), ("Path.rename", 1), ("Path.rename", 2)])
def test_a_restore_that_is_killed_goes_on_or_has_changed_nothing(
    config: Path, database: Path, to: Path, where: str, at: int
) -> None:
    back_up(config, to)
    assert erase(config, "tunde").code == 0
    before = database.read_bytes()
    more = ("--identity", config.parents[1] / "identity", "--config", config)
    killed(where, at, "restore", to, *more)
    if where != "Path.rename":
        assert database.read_bytes() == before
    assert restore(config).code == 0
    assert "hush-amina" in shown(config, 1)
    assert rows(database, "SELECT lacks FROM event ORDER BY id") == [(None,), ("erased",), (None,)]
    assert not database.with_name("premblyd.db.restoring").exists()


def test_a_daemon_renews_what_a_command_could_not(
    sealed: Store,
    tmp_path: Path,
) -> None:
    add(sealed, "amina")
    add(sealed, "tunde")
    path = tmp_path / "premblyd.yaml"
    (tmp_path / "first").write_text(KEY)
    (tmp_path / "first").chmod(0o600)
    kept = tmp_path / "keys"
    configure(path, backup={"recipients": [RECIPIENT], "keys": str(kept)})
    keeping = KeysUpkeep(backend(sealed.place, VAULT), sealed.writer)
    keeping.configure(load_config(path))
    sealed.wait(keeping.look())
    assert not kept.exists()
    kept.mkdir(mode=0o700)
    sealed.wait(keeping.look())
    assert len(secrets_in(kept)) == 2
    with closing(connect_operator(sealed.place, VAULT)) as record:
        erasing.erase(record, Request(named=Named.user("user-tunde"), actor="ada"))
    sealed.wait(keeping.look())
    assert list(secrets_in(kept)) == [str(sealed.rows(SEALED)[0][0])]
    action = "SELECT actor, note FROM operator_action WHERE action = 'keys'"
    assert sealed.rows(action) == [("daemon", "up to erasure 1")]
    sealed.by_hand("DELETE FROM event_key")
    sealed.wait(keeping.look())
    assert len(secrets_in(kept)) == 1, "nobody has said that a key went"
    away = kept.rename(kept.with_name("away"))
    keeping.want()
    sealed.wait(keeping.look())
    away.rename(kept)
    sealed.wait(keeping.look())
    assert secrets_in(kept) == {}


def test_a_fault_in_it_does_not_end_the_daemon(
    sealed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []

    async def fail(_: KeysUpkeep) -> float:
        calls.append(None)
        if len(calls) == 2:
            raise asyncio.CancelledError
        raise ValueError("a fault")

    monkeypatch.setattr(KeysUpkeep, "look", fail)
    monkeypatch.setattr(upkeep, "FIRST_S", 0)
    monkeypatch.setattr(upkeep, "FAILED_S", 0)
    with pytest.raises(asyncio.CancelledError):
        sealed.wait(KeysUpkeep(backend(sealed.place, VAULT), sealed.writer).run())
    assert len(calls) == 2


def test_check_says_where_keys_are_in_no_copy(config: Path, kept: Path) -> None:
    assert "in no copy" not in run("check", "--config", config).err
    configure(config, backup=None)
    assert "events' keys are in no copy" in run("check", "--config", config).err
    configure(config)
    kept.rmdir()
    assert f"there is no folder {kept} for the keys' copy" in run("check", "--config", config).err
