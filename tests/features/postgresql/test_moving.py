"""`premblyd record move`: every row comes over once, is proven to, and no daemon works on half of
them."""

import asyncio
import hashlib
import os
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path
from signal import SIGKILL

import psycopg
import pytest

from premblyd.features.postgresql.moving import MoveError
from premblyd.features.postgresql.opening import translated
from premblyd.features.postgresql.settings import Server
from premblyd.ground.errors import StoreUnavailableError
from premblyd.store.connections import backend, connect_operator, connect_read_only
from tests.support import postgresql
from tests.support.commands import PERSONAL, json_of, record, run
from tests.support.daemon import Premblyd
from tests.support.database import past_checks
from tests.support.erasing import forgetting
from tests.support.moving import TABLES, insert, insert_all, move_record, odd_rows, rows_of
from tests.support.needs import needs_machine, needs_root
from tests.support.postgresql import rows
from tests.support.store import Store
from tests.support.users import NOBODY
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgresql

HUSH = "hush-value"
NAMES_OF_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
JOIN = """
    INSERT INTO host (worker, name, pid, version, started_at_ms, seen_at_ms, beat_count)
    SELECT 'w', 'db-2', 4711, '1', now_ms - 60000, now_ms, 60
    FROM (SELECT extract(epoch FROM clock_timestamp())::bigint * 1000 AS now_ms) AS clock
"""
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE (datname, backend_type) = (current_database(), 'client backend')
    AND pid <> pg_backend_pid()
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
"""


@pytest.fixture
def server() -> Server:
    """A new database, with nothing in it."""
    with needs_machine():
        return postgresql.new_database(postgresql.of_session()[0])


@pytest.fixture
def odd(path: Path) -> Path:
    """A database with every odd value in every column, and references that point forward."""
    insert_all(path, odd_rows())
    return path


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def change(path: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection, past_checks(connection):
        connection.execute(sql, values)


def test_what_is_moved_is_every_table_save_what_daemons_and_browsers_are_at(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        in_schema = {name for (name,) in connection.execute(NAMES_OF_TABLES)}
    not_moved = {"console_token", "erasure_file", "schema_part"}
    assert set(TABLES) == in_schema - not_moved


def test_every_odd_value_is_the_same_there(odd: Path, server: Server) -> None:
    before, before_rows = digest_of(odd), rows_of(odd)
    told: list[tuple[str, int, int | None]] = []
    moved = move_record(odd, server, lambda *step: told.append(step))
    counts = {name: len(found) for name, found in before_rows.items()}
    assert {table.name: table.rows for table in moved} == counts
    assert (rows_of(server), digest_of(odd)) == (before_rows, before)
    count = sum(counts.values())
    assert ("copying", count, count) in told
    assert told[-1] == ("verifying", count, count)


def test_afterwards_the_new_database_is_as_if_made_by_a_daemon(odd: Path, server: Server) -> None:
    move_record(odd, server)
    with needs_machine():
        made = postgresql.new_database(*postgresql.of_session())
    assert rows(server, CONSTRAINTS) == rows(made, CONSTRAINTS)
    version = "SELECT schema_number, schema_digest FROM record"
    assert rows(server, version) == rows(made, version)
    connect_read_only(server).close()


def test_numbers_go_on_behind_the_last_ever_even_one_that_was_deleted(
    path: Path, server: Server
) -> None:
    insert(path, "rejection", id=41)
    change(path, "DELETE FROM rejection")
    move_record(path, server)
    values = "(at_ms, endpoint, remote_ip, reason) VALUES (1, 'prembly', '::1', 'no key')"
    assert rows(server, f"INSERT INTO rejection {values} RETURNING id") == [(42,)]


def test_of_a_text_what_postgresql_cannot_hold_is_replaced(path: Path, server: Server) -> None:
    insert(path, "event", id=7, detail="a\0b", status="whole")
    insert(path, "event", id=8, key="k8", detail="c")
    change(path, "UPDATE event SET detail = CAST(x'61ff' AS TEXT) WHERE id = 8")
    move_record(path, server)
    assert rows(server, "SELECT detail FROM event ORDER BY id") == [("a\ufffdb",), ("a\ufffd",)]


def test_when_postgresql_refuses_a_row_nothing_is_moved_and_no_value_is_told(
    path: Path, server: Server
) -> None:
    insert(path, "event", id=7)
    insert(path, "delivery", id=18, ran_instead_id=None)
    for by_hand in ("finished_at_ms = NULL", "event_id = 99"):
        change(path, f"UPDATE delivery SET last_error = ?, {by_hand}", HUSH)
        with pytest.raises(StoreUnavailableError, match="PostgreSQL says") as raised, translated():
            move_record(path, server)
        assert HUSH not in str(raised.value), by_hand
        assert_has_nothing(server)
        change(path, "UPDATE delivery SET finished_at_ms = 1, event_id = 7")


def assert_has_nothing(server: Server) -> None:
    assert rows(server, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []


# Python that runs before the command, so that it dies at one exact place.
DIE = """
import os, signal
from premblyd.features.postgresql import moving
calls = 0

def after_call(number, work):
    def replacement(*given):
        global calls
        calls += 1
        result = work(*given)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return replacement
"""
PLACES = {
    "while it copies": "moving.digest = after_call(9, moving.digest)",
    "before it commits": "moving.Target.finish = after_call(1, moving.Target.finish)",
}


def move_process(config: Path, target: str, before: str) -> subprocess.CompletedProcess[str]:
    code = f"{before}\nfrom premblyd.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, "--config", str(config), "record", "move", target],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("place", PLACES)
def test_a_move_that_was_killed_has_moved_nothing_and_begins_again(
    odd: Path, server: Server, tmp_path: Path, place: str
) -> None:
    daemon = Premblyd(tmp_path)
    assert move_process(daemon.config, server.url, DIE + PLACES[place]).returncode == -SIGKILL
    wait_until(lambda: rows(server, SESSIONS) == [(0,)])  # the server notices later
    assert_has_nothing(server)
    change(odd, "INSERT INTO schema_part (feature, digest) VALUES ('gone', 'x')")
    done = run("--config", daemon.config, "record", "move", server.url)
    assert (done.code, rows_of(server)) == (0, rows_of(odd))
    assert "Not moved: the tables of gone, which is not installed." in done.err


def test_a_database_with_a_record_is_not_filled(path: Path, server: Server) -> None:
    """Not even one that a daemon has only just begun: it may be at work."""
    backend(server).prepare()
    with pytest.raises(MoveError, match="has a record already"):
        move_record(path, server)


def test_nothing_is_moved_while_a_daemon_runs(path: Path, server: Server, tmp_path: Path) -> None:
    with Premblyd(tmp_path) as daemon:
        daemon.start()
        done = run("--config", daemon.config, "record", "move", server.url)
        assert (done.code, done.out, "Stop it" in done.err) == (75, "", True)


@pytest.mark.parametrize("engine", ["file", "server"])
def test_no_daemon_starts_on_a_database_at_which_a_move_is(
    path: Path, server: Server, tmp_path: Path, engine: str
) -> None:
    """A process, for it is the start of a daemon that must be refused."""
    place = path if engine == "file" else server
    daemon = Premblyd(tmp_path, place=place)
    refused: list[tuple[int, str]] = []

    def watch(*_: object) -> None:
        if not refused:
            refused.append(daemon.fail_to_start())

    move_record(path, server, watch)
    [(status, said)] = refused
    assert (status, "premblyd" in said) == (75, True)
    assert engine == "file" or "moves a record there" in said
    with daemon:
        daemon.start()


def test_who_was_erased_stays_so_on_the_new_database(
    server: Server, path: Path, tmp_path: Path
) -> None:
    """The key of the digests comes along: the target's own is another."""
    with closing(connect_operator(path)) as database:
        number = database.transact(forgetting("ref-1"))
    move_record(path, server)
    with asyncio.Runner() as runner:
        store = Store(server, runner.get_loop())
        assert store.add("crm", reference="ref-1").is_erased
        assert store.rows("SELECT erasure_id FROM erased_event") == [(number,)]
        assert store.rows("SELECT reference FROM event") == [(None,)]
        store.close()


def test_the_command_says_what_came_over_and_what_to_do_now(server: Server, tmp_path: Path) -> None:
    config = record(tmp_path)
    old = tmp_path / "premblyd.db"
    counts = {name: len(found) for name, found in rows_of(old).items()}
    done = run("--config", config, "record", "move", server.url)
    assert done.code == 0
    moved = f"{counts['event']} events, {counts['delivery']} deliveries,"
    assert f"Moved and verified: {moved}" in done.out
    assert f"{old} was not changed." in done.out
    assert f"  database: {server.url}\n" in done.out
    assert not [word for word in PERSONAL if word in done.out + done.err]
    other = postgresql.new_database(postgresql.of_session()[0])
    said = json_of(config, "record", "move", other.url)
    assert (said["from"], said["to"]) == (str(old), other.url)
    assert {table["table"]: table["rows"] for table in said["tables"]} == counts


def test_ctrl_c_is_no_failure(odd: Path, server: Server, tmp_path: Path) -> None:
    daemon = Premblyd(tmp_path)
    interrupt = DIE.replace("SIGKILL", "SIGINT") + PLACES["while it copies"]
    ended = move_process(daemon.config, server.url, interrupt)
    said = "Interrupted. Nothing was moved. Run the same command again."
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (75, said)
    assert run("--config", daemon.config, "record", "move", server.url).code == 0


def test_what_is_no_database_to_move_to_is_said(path: Path, server: Server, tmp_path: Path) -> None:
    daemon = Premblyd(tmp_path)

    def hold(code: int, words: str, *arguments: object) -> None:
        done = run("--config", daemon.config, "record", "move", *arguments)
        assert (done.code, done.out, words in done.err) == (code, "", True), done.err
        assert HUSH not in done.err

    hold(2, "should be postgresql://", "sqlite:///other.db")
    hold(2, "--password-file", f"postgresql://me:{HUSH}@localhost/premblyd")
    no_file = "can't be read: No such file"
    hold(2, no_file, server.url, "--password-file", tmp_path / "none")
    hold(75, "PostgreSQL can't be reached", f"postgresql:///premblyd?host={tmp_path}")
    daemon.configure(database=server.url)
    hold(1, "pg_dump", server.url)
    daemon.configure(database="sqlite:///none.db")
    hold(1, "There is no database at", server.url)
    assert not (tmp_path / "none.db.lock").exists()


def test_a_plain_role_with_a_password_from_a_file_is_enough(
    odd: Path, server: Server, tmp_path: Path
) -> None:
    """It owns its database, and is not the server's superuser."""
    role = f"role_{uuid.uuid4().hex[:8]}"
    name = server.url.split("/")[3].partition("?")[0]
    with psycopg.connect(server.url) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hush'")
        owner.execute(f"ALTER DATABASE {name} OWNER TO {role}")
    url = server.url.replace("tests@", f"{role}@")
    (tmp_path / "password").write_text("hush\n")
    typed = ("record", "move", url, "--password-file", tmp_path / "password")
    done = run("--config", Premblyd(tmp_path).config, *typed)
    assert (done.code, f"url: '{url}'" in done.out, "hush" in done.out) == (0, True, False)
    assert rows_of(server) == rows_of(odd)


@needs_root
def test_what_root_makes_belongs_to_the_daemon(server: Server, path: Path, tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    os.chown(path, NOBODY, NOBODY)
    move_record(path, server)
    assert {file.stat().st_uid for file in tmp_path.iterdir()} == {NOBODY}
