"""With `encryption`, nothing of anybody is in any file, and every command works as without."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from unittest import mock

import pytest

from premblyd.config.load import load_config
from premblyd.config.secrets import SecretPlaces
from premblyd.features.encryption import keys as keyfiles
from premblyd.features.encryption.settings import key_path
from premblyd.ground import databases
from premblyd.ground.databases import EncryptedFile
from premblyd.ground.errors import ConfigError, LacksRightsError, PremblydError
from premblyd.store.connections import connect_operator, connect_read_only
from tests.faults.daemon import folder
from tests.support.commands import run
from tests.support.configuration import ONCE, configuration, shell
from tests.support.daemon import Premblyd
from tests.support.database import KEY, file_in, prepared_file, rows
from tests.support.needs import needs_root
from tests.support.rows import for_each
from tests.support.store import store_at

MARKS = ("canary-of-a-name", "canary-reference", "canary-of-a-detail")
BODY = (
    b'{"status": true, "response_code": "00", "detail": "canary-of-a-detail",'
    b' "reference": "canary-reference", "data": {"name": "canary-of-a-name"}}'
)


@pytest.fixture
def encrypted(tmp_path: Path) -> EncryptedFile:
    """A prepared encrypted database that nobody has open."""
    place = file_in(tmp_path, is_encrypted=True)
    assert isinstance(place, EncryptedFile)
    place.path.write_bytes(prepared_file(is_encrypted=True).read_bytes())
    return place


@pytest.fixture
def daemon(tmp_path: Path, encrypted: EncryptedFile) -> Iterator[Premblyd]:
    with Premblyd(tmp_path, place=encrypted) as daemon:
        yield daemon


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.process
@pytest.mark.promise
def test_a_daemon_s_files_name_nobody_and_nothing_outside_has_its_key(daemon: Premblyd) -> None:
    """While it works, and after it was killed."""
    reads = "cat /proc/$PPID/cmdline /proc/$PPID/environ; cat; env"
    daemon.configure(actions=[shell("crm", reads, retry=ONCE)], log={"level": "debug"})
    daemon.start()
    assert daemon.send(BODY).status == 200
    daemon.wait_for_rows([("succeeded",)], "SELECT state FROM delivery")
    assert rows(daemon.place, "SELECT reference, body FROM event") == [("canary-reference", BODY)]
    shown = run("events", "--config", daemon.config)
    assert (shown.code, "canary-reference"[-4:] in shown.out) == (0, True)
    outputs = rows(daemon.place, "SELECT output FROM attempt")
    for stop in (lambda: None, lambda: daemon.stop(SIGKILL)):
        stop()
        files = everything_in(daemon.folder)
        assert os.path.getsize(f"{daemon.database}-wal")
        assert [mark for mark in MARKS if mark.encode() in files] == []
    for spelled in (KEY, KEY.upper(), bytes.fromhex(KEY).decode("latin-1")):
        assert spelled not in daemon.log_text()
        assert spelled not in repr((outputs, daemon.place, load_config(daemon.config)))
    daemon.place.key_path.unlink()  # type: ignore[union-attr]
    assert KEY.encode() not in everything_in(daemon.folder)


OTHER = "ab" * 32
NOBODY = 65534


@pytest.mark.process
@for_each(
    ("key", "database", "reason"),
    [
        (OTHER, True, "premblyd.db: it is the key of another database"),
        (KEY[:62], True, "should have exactly 64 hex digits"),
        (KEY + "ab", True, "should have exactly 64 hex digits"),
        (KEY[:-1] + "g", True, "should have exactly 64 hex digits"),
        (None, True, "can't be read: No such file or directory. If it is the database's"),
        (KEY, False, "is not encrypted, and the configuration has `encryption`"),
    ],
)
def test_what_does_not_open_ends_with_78_and_says_what_to_do(
    daemon: Premblyd, key: str | None, database: bool, reason: str
) -> None:
    key_path = daemon.folder / "database.key"
    key_path.unlink(missing_ok=True)
    if key is not None:
        key_path.write_text(key)
    daemon.database.write_bytes(prepared_file(is_encrypted=database).read_bytes())
    before = daemon.database.read_bytes()
    code, told = daemon.fail_to_start()
    assert (code, reason in told) == (78, True), told
    done = run("events", "--config", daemon.config)
    assert done.code == 78
    checked = run("check", "--config", daemon.config)
    assert reason in checked.out + checked.err
    for text in (told, done.err, checked.out, checked.err):
        assert not key or key.strip() not in text
    assert daemon.database.read_bytes() == before


def test_an_encrypted_database_without_encryption_is_named_so(encrypted: EncryptedFile) -> None:
    with pytest.raises(PremblydError, match="is encrypted, or is no SQLite database") as caught:
        connect_read_only(encrypted.path)
    assert caught.value.exit_code == 78


def test_a_key_that_is_exchanged_under_a_daemon_leaves_its_locks(encrypted: EncryptedFile) -> None:
    """And the next one opens what the key does not."""
    with store_at(encrypted) as store:
        store.add("crm")
        inode = f":{encrypted.path.stat().st_ino} "
        for content in (OTHER, f"{KEY}\n"):
            encrypted.key_path.write_text(content)
            with contextlib.suppress(PremblydError):
                connect_read_only(encrypted).close()
            assert inode in Path("/proc/locks").read_text()
    encrypted.key_path.rename(databases.next_key(encrypted.key_path))
    encrypted.key_path.write_text(OTHER)
    connect_operator(encrypted).close()


def test_a_key_file_is_read_within_bounds_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(PremblydError, match=re.escape(str(path))):
            keyfiles.read_key(path)


def test_who_may_not_read_the_key_is_told_as_whom_to_run_it(
    encrypted: EncryptedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = mock.Mock(side_effect=PermissionError(13, "Permission denied"))
    monkeypatch.setattr("premblyd.features.encryption.keys.os.open", refuse)
    encrypted.key_path.chmod(0o640)
    with pytest.raises(LacksRightsError, match="You may not read") as caught:
        connect_read_only(encrypted)
    assert caught.value.by_user == encrypted.key_path.owner()


@needs_root
def test_of_a_key_that_root_put_back_it_is_told_whose_it_should_be() -> None:
    with folder() as at:
        at.chmod(0o755)
        path = at / "database.key"
        path.write_text(KEY)
        path.chmod(0o600)
        os.seteuid(NOBODY)
        try:
            with pytest.raises(LacksRightsError, match=f"sudo chown premblyd: {path}") as caught:
                keyfiles.read_key(path)
        finally:
            os.seteuid(0)
        assert caught.value.by_user is None


def test_a_key_that_is_missing_is_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    for credentials in ({}, {"CREDENTIALS_DIRECTORY": "/x"}):
        places = SecretPlaces(tmp_path, credentials, look_up=False)
        assert key_path({"file": "database.key"}, places) == tmp_path / "database.key"


def test_encryption_on_a_server_is_refused_with_words(tmp_path: Path) -> None:
    path = tmp_path / "premblyd.yaml"
    (tmp_path / "database.key").write_text(KEY)
    on_server = {"database": "postgresql://me@/x", "encryption": {"key": {"file": "database.key"}}}
    path.write_text(json.dumps(configuration(**on_server)))
    with pytest.raises(ConfigError, match="put the server on an encrypted volume"):
        load_config(path)


def test_another_file_is_read_with_the_configured_key(daemon: Premblyd, tmp_path: Path) -> None:
    daemon.configure()
    for is_encrypted in (True, False):
        copy = tmp_path / "copy.db"
        copy.write_bytes(prepared_file(is_encrypted=is_encrypted).read_bytes())
        done = run("events", "--config", daemon.config, "--database", copy)
        assert (done.code, done.err) == (0, "")


@for_each("is_encrypted", [True, False])
def test_without_the_library_it_is_named(
    encrypted: EncryptedFile, monkeypatch: pytest.MonkeyPatch, is_encrypted: bool
) -> None:
    encrypted.path.write_bytes(prepared_file(is_encrypted=is_encrypted).read_bytes())
    monkeypatch.setitem(sys.modules, "sqlcipher3", None)
    with pytest.raises(PremblydError, match="needs the library sqlcipher3"):
        connect_read_only(encrypted)
