"""`premblyd backup` and `restore` of a record on a PostgreSQL server."""

import json
import os
import re
import shlex
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest

from premblyd.backup.making import make
from premblyd.databases import Server
from premblyd.engines.besides import Copied
from premblyd.engines.connections import backend
from premblyd.errors import PremblydError
from tests.support import postgresql
from tests.support.commands import run
from tests.support.configuration import configuration
from tests.support.database import rows
from tests.support.forking import Forked
from tests.support.hosts import new_server
from tests.support.sealing import KEY, VAULT
from tests.support.store import store_at

pytestmark = pytest.mark.postgresql
IDENTITY = pyrage.x25519.Identity.generate()
EVENT = """
INSERT INTO event (key, endpoint, received_at_ms, remote_ip, headers, body_bytes, body_sha256,
                   verified_by, kind, outcome, body)
SELECT 'key-' || n, 'prembly', n, '', '[]', 6, '', '', 'raw', 'unknown', 'AMINA'
FROM generate_series(1, 1000) AS n
"""
KILLED = """
import os
from premblyd.keep import restoring
restoring.take_over = lambda *_: os.kill(os.getpid(), 9)
"""
EVENTS = "SELECT id, key, body FROM event ORDER BY id"


@pytest.fixture
def server() -> Server:
    server = new_server()
    postgresql.by_hand(server, EVENT)
    return server


@pytest.fixture
def config(tmp_path: Path, server: Server) -> Path:
    path = tmp_path / "premblyd.yaml"
    recipients = [str(IDENTITY.to_public())]
    settings = configuration(database=server.url, backup={"recipients": recipients})
    path.write_text(json.dumps(settings))
    return path


@pytest.fixture
def to(tmp_path: Path) -> Path:
    made = tmp_path / "copies"
    made.mkdir()
    return made


def test_a_sealed_dump_is_put_back_by_the_lines_that_restore_prints(
    config: Path, to: Path, tmp_path: Path, server: Server
) -> None:
    done = run("backup", to, "--keep", 1, "--config", config)
    assert (done.code, done.err) == (0, "")
    [copy] = to.iterdir()
    assert re.fullmatch(r"premblyd-\d{8}T\d{6}Z\.dump\.age", copy.name)
    [(note,)] = rows(server, "SELECT note FROM operator_action WHERE action = 'backup'")
    assert note == f"{copy.name}, sealed"
    before = rows(server, EVENTS)
    postgresql.by_hand(server, "DELETE FROM event")

    done = run("restore", to, "--config", config)
    assert (done.code, done.out) == (1, "")
    create, put = re.findall(r"^  (.*)$", done.err, re.MULTILINE)
    # In the place of the program `age`, which needs not be there.
    opened = tmp_path / "opened"
    opened.write_bytes(pyrage.decrypt(copy.read_bytes(), [IDENTITY]))
    opening = f"age --decrypt -i KEY {copy}"
    assert put.startswith(opening)
    for line in (create, put.replace(opening, f"cat {opened}")):
        subprocess.run(["sh", "-c", line], check=True, env=as_the_superuser())
    (url,) = (word[9:] for word in shlex.split(put) if word.startswith("--dbname="))
    assert url == server.url.replace("?", "_restored?")
    assert rows(Server(url), EVENTS) == before
    assert run("events", "--database", url).code == 0
    postgresql.by_hand(server, f"DROP DATABASE {url.partition('@/')[2].partition('?')[0]}")


def test_a_dump_has_no_keys_and_gets_them_back_but_for_who_was_erased_since(
    to: Path, tmp_path: Path
) -> None:
    server = new_server()
    with store_at(server, VAULT) as store:
        for name in ("amina", "tunde"):
            text = f"hush-{name}".encode()
            store.add(body=text, reference=f"ref-{name}", user_ref=f"user-{name}")
    kept, identity = tmp_path / "keys", tmp_path / "identity"
    kept.mkdir(mode=0o700)
    identity.write_text(f"{IDENTITY}\n")
    (tmp_path / "first").write_text(KEY)
    (tmp_path / "first").chmod(0o600)
    config = tmp_path / "premblyd.yaml"
    settings = configuration(
        database=server.url,
        backup={"recipients": [str(IDENTITY.to_public())], "keys": str(kept)},
        encryption={"key": {"file": "first"}},
    )
    config.write_text(json.dumps(settings))
    done = run("backup", to, "--config", config)
    assert done.code == 0, done.err
    [copy] = to.iterdir()
    assert run("erase", "--user-ref", "user-tunde", "--yes", "--config", config).code == 0

    done = run("restore", to, "--config", config)
    assert f"premblyd restore {to} --only-keys --identity KEY" in done.err
    create, put = re.findall(r"^  (.*)$", done.err, re.MULTILINE)
    opened = tmp_path / "opened"
    opened.write_bytes(pyrage.decrypt(copy.read_bytes(), [IDENTITY]))
    for line in (create, put.replace(f"age --decrypt -i KEY {copy}", f"cat {opened}")):
        subprocess.run(["sh", "-c", line], check=True, env=as_the_superuser())
    new = Server(server.url.replace("?", "_restored?"))
    assert rows(new, "SELECT count(*) FROM event_key") == [(0,)]
    config.write_text(json.dumps(settings | {"database": new.url}))
    words = ("restore", to, "--only-keys", "--identity", identity, "--config", config)
    with Forked(words, before=KILLED) as killed:  # its keys are given, and nobody is erased
        assert killed.wait() == -signal.SIGKILL
    assert rows(new, "SELECT count(*) FROM event_key") == [(1,)]
    done = run(*words)
    assert (done.code, done.err) == (0, "")
    assert done.out == "The keys' copy opens 1 event. Erased 1 event.\n"
    assert "hush-amina" in run("show", 1, "--reveal", "--config", config).out
    assert rows(new, "SELECT lacks FROM event ORDER BY id") == [(None,), ("erased",)]
    assert rows(new, "SELECT count(*) FROM event WHERE reference = 'ref-tunde'") == [(0,)]
    assert run("erase", "--user-ref", "user-amina", "--yes", "--config", config).code == 0
    postgresql.by_hand(server, f"DROP DATABASE {new.url.partition('@/')[2].partition('?')[0]}")


def as_the_superuser() -> dict[str, str]:
    path = f"{postgresql.binaries()}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "LC_ALL": "C.UTF-8"}


def test_a_password_is_in_no_argument_and_no_variable(
    server: Server, to: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program in the place of pg_dump tells what it has got."""
    program = tmp_path / "pg_dump"
    program.write_text('#!/bin/sh\necho "$@"; env; echo "file:"; cat "$PGPASSFILE"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PGPASSWORD", "another")
    told: list[Copied] = []
    made = make(backend(replace(server, password="hu:sh\\")), to, (), None, 1, told.append)
    said, _, file = made.path.read_text().partition("file:\n")
    assert file == "*:*:*:*:hu\\:sh\\\\\n"
    assert "hu:sh" not in said
    assert "PGPASSWORD" not in said
    assert told[-1] == Copied(bytes=made.bytes, total_bytes=None)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'pg_dump: error: no luck' >&2; exit 1", "pg_dump: no luck"),
        ("echo 'pg_dump: error: aborting because of server version mismatch' >&2; exit 1", "older"),
        ("kill -9 $$", "it did not say why"),
        (None, "install postgresql-client"),
    ],
)
def test_a_dump_that_fails_leaves_the_copies_of_before(
    script: str | None,
    message: str,
    server: Server,
    to: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    older = to / "premblyd-20260101T000000Z.dump"
    older.touch()
    if script is not None:
        program = tmp_path / "pg_dump"
        program.write_text(f"#!/bin/sh\necho half of it\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if script else str(tmp_path))
    with pytest.raises(PremblydError, match=message):
        make(backend(server), to, (), 1, 1, lambda _: None)
    assert list(to.iterdir()) == [older]


def test_what_is_no_dump_is_not_put_into_a_server(config: Path, tmp_path: Path) -> None:
    done = run("restore", tmp_path / "premblyd.db", "--config", config)
    assert (done.code, done.out) == (1, "")
    assert "is no dump of one" in done.err
