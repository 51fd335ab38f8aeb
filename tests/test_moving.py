"""`premblyd move`: every row comes over once, is proven to, and no daemon works on half of them."""

import asyncio
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

import psycopg
import pytest

from premblyd.databases import Server
from premblyd.engines.connections import backend, connect_operator, connect_read_only
from premblyd.engines.engine import Database
from premblyd.engines.postgresql import beacon, opening
from premblyd.errors import AlreadyRunningError, CannotStartError, SchemaError
from premblyd.move import moving
from premblyd.move import postgresql as on_server
from premblyd.move.moving import DifferentRowsError, MoveStep, NotEmptyError, OtherSourceError
from premblyd.move.rows import UnfitRowError
from premblyd.move.sides import SourceChangedError
from tests.support import postgresql
from tests.support.commands import PERSONAL, command, on_terminal, record, run
from tests.support.configuration import AT_ONCE, shell
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
    """A new database with the schema."""
    with needs_machine():
        return postgresql.new_database(*postgresql.of_session())


@pytest.fixture
def empty_server() -> Server:
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
    not_moved = {"console_token", "halt", "schema_migration"}
    assert set(TABLES) == in_schema - not_moved


def test_every_odd_value_is_the_same_there_and_back(
    odd: Path, empty_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "ROWS_AT_ONCE", 3)
    before, before_rows = digest_of(odd), rows_of(odd)
    moved = move_record(odd, empty_server)
    assert {table.name: table.rows for table in moved} == {
        name: len(found) for name, found in before_rows.items()
    }
    assert rows_of(empty_server) == before_rows
    back = tmp_path / "back.db"
    assert [table.digest for table in move_record(empty_server, back)] == [
        table.digest for table in moved
    ]
    assert rows_of(back) == before_rows
    assert digest_of(odd) == before


def test_afterwards_the_new_database_is_as_if_made_by_a_daemon(
    odd: Path, empty_server: Server, server: Server
) -> None:
    move_record(odd, empty_server)
    assert rows(empty_server, CONSTRAINTS) == rows(server, CONSTRAINTS)
    applied = "SELECT name FROM schema_migration ORDER BY name"
    assert rows(empty_server, applied) == rows(server, applied)
    connect_read_only(empty_server).close()


def test_numbers_go_on_behind_the_last_ever_even_one_that_was_deleted(
    path: Path, server: Server, tmp_path: Path
) -> None:
    insert(path, "rejection", id=41)
    change(path, "DELETE FROM rejection")
    move_record(path, server)
    values = "(1, 'prembly', '::1', 'no key')"
    more = (
        f"INSERT INTO rejection (at_ms, endpoint, remote_ip, reason) VALUES {values} RETURNING id"
    )
    assert rows(server, more) == [(42,)]
    move_record(server, tmp_path / "back.db")
    change(tmp_path / "back.db", "DELETE FROM rejection")
    with closing(sqlite3.connect(tmp_path / "back.db")) as connection:
        assert connection.execute(more).fetchall() == [(43,)]


def test_texts_that_postgresql_cannot_hold_are_counted(path: Path, server: Server) -> None:
    insert(path, "event", id=7, detail="a\0b", status="whole")
    insert(path, "event", id=8, key="k8", detail="c")
    change(path, "UPDATE event SET detail = CAST(x'61ff' AS TEXT) WHERE id = 8")
    moved = {table.name: table for table in move_record(path, server)}
    assert moved["event"].replaced == {"detail": 2}
    assert rows(server, "SELECT detail FROM event ORDER BY id") == [
        ("a\N{REPLACEMENT CHARACTER}b",),
        ("a\N{REPLACEMENT CHARACTER}",),
    ]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("received_at_ms", HUSH, "received_at_ms should be a whole number"),
        ("received_at_ms", 1.5, "received_at_ms should be a whole number"),
        ("face_match", 7, "face_match should be a truth value"),
        ("face_confidence", HUSH, "face_confidence should be a number"),
        ("detail", HUSH.encode(), "detail should be a text"),
        ("body", HUSH, "body should be a byte string"),
        ("kind", HUSH, "event_kind_check"),
    ],
)
def test_a_row_that_postgresql_cannot_hold_is_named_without_its_value(
    path: Path, server: Server, column: str, value: object, reason: str
) -> None:
    for id_ in (7, 8, 9):
        insert(path, "event", id=id_, key=f"k{id_}")
    change(path, f"UPDATE event SET {column} = ? WHERE id = 8", value)
    with pytest.raises(UnfitRowError, match=r"^event 8 can't be moved") as raised:
        move_record(path, server)
    assert reason in str(raised.value)
    assert HUSH not in str(raised.value)
    with pytest.raises(SchemaError, match="only a part"):
        backend(server).prepare()


def test_a_daemon_may_start_as_soon_as_a_move_has_ended(
    path: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is free to notice later that a connection was closed: here, after the test."""
    left: list[Database] = []
    close = opening._Database.close

    def keep(own: Database) -> None:
        left.append(own)

    monkeypatch.setattr(opening._Database, "close", keep)
    insert(path, "delivery", id=7, event_id=99, ran_instead_id=None)
    with pytest.raises(CannotStartError, match="delivery 7"):
        move_record(path, server)
    backend(server).prepare()
    move_record(server, tmp_path / "new.db")
    backend(server).prepare()
    for database in left:
        close(database)


def test_a_row_whose_event_was_deleted_by_hand_is_named_before_anything_is_copied(
    path: Path, server: Server
) -> None:
    insert(path, "delivery", id=7, event_id=99, ran_instead_id=None)
    with pytest.raises(CannotStartError, match=r"delivery 7 \(event_id\)"):
        move_record(path, server)
    backend(server).prepare()


# Python that runs before the command, so that it dies at one exact place.
DIE = """
import os, signal
from premblyd.move import moving, sides
from premblyd.move import postgresql as postgresql
from premblyd.move import sqlite as sqlite
moving.ROWS_AT_ONCE = 3
calls = 0

def at_call(number, work, after):
    def replacement(*given):
        global calls
        calls += 1
        if calls == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = work(*given)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return replacement
"""
PLACES = {
    "while it begins": "{target}.mark = at_call(1, {target}.mark, True)",
    "after it began": "{target}.begin = at_call(1, {target}.begin, True)",
    "before a commit": "{target}.note = at_call(9, {target}.note, False)",
    "after a commit": "{target}.put = at_call(9, {target}.put, True)",
    "while it verifies": "moving.Comparison.add = at_call(30, moving.Comparison.add, True)",
    "while it finishes": "{target}.unmark = at_call(1, {target}.unmark, True)",
    "after it finished": "{target}.finish = at_call(1, {target}.finish, True)",
}


def move_process(config: Path, target: str, before: str) -> subprocess.CompletedProcess[str]:
    code = f"{before}\nfrom premblyd.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, "--config", str(config), "move", target],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("place", PLACES)
def test_a_move_that_was_killed_goes_on(
    odd: Path, server: Server, tmp_path: Path, place: str
) -> None:
    daemon = Premblyd(tmp_path)
    before = rows_of(odd)
    die = PLACES[place].format(target="postgresql.PostgresqlSide")
    assert move_process(daemon.config, server.url, DIE + die).returncode == -SIGKILL
    wait_until(lambda: rows(server, SESSIONS) == [(0,)])  # the server notices later
    if place not in ("while it begins", "after it finished"):
        with pytest.raises(SchemaError, match="Run the same `premblyd move` again"):
            backend(server).prepare()
    done = run("--config", daemon.config, "move", server.url)
    assert (done.code, rows_of(server)) == (0, before)


def test_a_move_back_that_was_killed_goes_on(odd: Path, server: Server, tmp_path: Path) -> None:
    move_record(odd, server)
    before = rows_of(odd)
    daemon = Premblyd(tmp_path, database=server.url)
    target = f"sqlite:///{tmp_path}/back.db"
    die = PLACES["after a commit"].format(target="sqlite.SqliteSide")
    assert move_process(daemon.config, target, DIE + die).returncode == -SIGKILL
    daemon.configure(database=target)
    status, said = daemon.fail_to_start()
    assert (status, "Run the same `premblyd move` again" in said) == (78, True)
    daemon.configure(database=server.url)
    assert run("--config", daemon.config, "move", target).code == 0
    assert rows_of(tmp_path / "back.db") == before


def test_a_server_that_sorts_as_people_do_gives_rows_in_the_same_order(
    path: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "ROWS_AT_ONCE", 2)
    with psycopg.connect(server.url) as owner:
        owner.execute('ALTER TABLE event_hour ALTER type TYPE text COLLATE "en-x-icu"')
    for type_ in ("a", "B", "_", "é", "Z", ""):
        insert(path, "event_hour", type=type_)
    move_record(path, server)
    move_record(server, tmp_path / "back.db")
    assert rows_of(tmp_path / "back.db") == rows_of(path)


class StopError(Exception):
    """A test stops a move here."""


def stop_half_way(source: Path, target: Server) -> None:
    """Move the events alone."""

    def watch(step: MoveStep) -> None:
        if step.table == "delivery":
            raise StopError

    with pytest.raises(StopError):
        move_record(source, target, watch=watch)


def test_what_changed_since_an_interrupted_move_needs_a_new_one(odd: Path, server: Server) -> None:
    stop_half_way(odd, server)
    insert(odd, "event", id=99_999, key="newer")
    with pytest.raises(OtherSourceError, match="--restart"):
        move_record(odd, server)
    move_record(odd, server, restart=True)
    assert rows_of(server) == rows_of(odd)


def test_a_move_goes_on_behind_what_is_there(odd: Path, server: Server) -> None:
    stop_half_way(odd, server)
    first: dict[str, int] = {}

    def watch(step: MoveStep) -> None:
        if not step.is_verifying:
            first.setdefault(step.table, step.done)

    move_record(odd, server, watch=watch)
    counts = {name: len(found) for name, found in rows_of(odd).items()}
    assert first == dict.fromkeys(counts, 0) | {"event": counts["event"]}


def test_a_row_that_came_over_otherwise_is_named(odd: Path, server: Server) -> None:
    def watch(step: MoveStep) -> None:
        if step.is_verifying and step.table == "event" and step.done == 0:
            with psycopg.connect(server.url) as other:
                other.execute("SET premblyd.fills = 'yes'")
                other.execute(f"UPDATE event SET detail = '{HUSH}' WHERE id = 7")
                other.execute("DELETE FROM event WHERE id = 8")

    with pytest.raises(DifferentRowsError) as raised:
        move_record(odd, server, watch=watch)
    assert "(1 different, 1 missing): event 7, event 8." in str(raised.value)
    assert HUSH not in str(raised.value)
    with pytest.raises(SchemaError):
        connect_read_only(server)


def test_rows_that_only_the_new_database_has_are_named(odd: Path, server: Server) -> None:
    def watch(step: MoveStep) -> None:
        if step.table == "rejection" and not step.is_verifying and step.done == step.total:
            with psycopg.connect(server.url) as other:
                other.execute("SET premblyd.fills = 'yes'")
                for id_ in (1, 99_999):  # before the first of the old ones, and behind the last
                    values = "1, 'prembly', '::1', 'no key'"
                    columns = "id, at_ms, endpoint, remote_ip, reason"
                    other.execute(f"INSERT INTO rejection ({columns}) VALUES ({id_}, {values})")

    with pytest.raises(DifferentRowsError) as raised:
        move_record(odd, server, watch=watch)
    said = "(2 not in the old database): rejection 1, rejection 99999."
    assert said in str(raised.value)


def test_who_writes_to_the_old_file_meanwhile_is_noticed(odd: Path, server: Server) -> None:
    def watch(step: MoveStep) -> None:
        if step.is_verifying and step.table == "event" and step.done == 0:
            change(odd, "UPDATE delivery SET last_error = 'by hand'")

    with pytest.raises(SourceChangedError, match="--restart"):
        move_record(odd, server, watch=watch)
    with pytest.raises(SchemaError):
        connect_read_only(server)


def test_nobody_can_write_to_the_old_server_meanwhile(server: Server, tmp_path: Path) -> None:
    with moving.source(server), psycopg.connect(server.url, autocommit=True) as other:
        other.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(
                "INSERT INTO rejection (at_ms, endpoint, remote_ip, reason)"
                " VALUES (1, 'a', 'b', 'c')"
            )


@pytest.mark.parametrize("table", ["event", "rejection", "event_hour"])
def test_a_database_with_a_record_is_not_filled(
    path: Path, server: Server, table: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(path.read_bytes())
    insert(other, table)
    before = digest_of(other)
    with pytest.raises(NotEmptyError, match=f"{table} 1"):
        move_record(server, other)
    assert digest_of(other) == before
    move_record(other, server)
    with pytest.raises(NotEmptyError, match=f"{table} 1"):
        move_record(path, server)


@pytest.fixture
def beating(server: Server) -> Iterator[Server]:
    """A database on which a daemon lives."""
    stopped = threading.Event()
    with psycopg.connect(server.url, autocommit=True) as own:
        own.execute(JOIN)

        def beat() -> None:
            while not stopped.wait(0.05):
                own.execute("UPDATE host SET beat_count = beat_count + 1")

        thread = threading.Thread(target=beat)
        thread.start()
        yield server
        stopped.set()
        thread.join()


def test_a_database_on_which_a_daemon_lives_is_neither_moved_nor_filled(
    beating: Server, path: Path, tmp_path: Path
) -> None:
    with pytest.raises(AlreadyRunningError, match=r"db-2, process 4711\. Stop it"):
        move_record(beating, tmp_path / "new.db")
    with pytest.raises(AlreadyRunningError, match=r"db-2, process 4711\. Stop it"):
        move_record(path, beating)


def test_a_daemon_that_was_killed_on_a_server_is_in_nobodys_way(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_server, "WATCHED_S", 0.3)
    monkeypatch.setattr(beacon, "MOST_WATCHED_S", 0.6)
    with psycopg.connect(server.url) as other:
        other.execute(JOIN)
    move_record(server, tmp_path / "new.db")
    assert len(rows_of(tmp_path / "new.db")["host"]) == 1


def test_the_record_of_a_running_daemon_is_not_moved(empty_server: Server, tmp_path: Path) -> None:
    with Premblyd(tmp_path) as daemon:
        daemon.start()
        done = run("--config", daemon.config, "move", empty_server.url)
        assert (done.code, done.out, "Stop it" in done.err) == (75, "", True)
        assert daemon.stop() == 0
        daemon.configure(database=empty_server.url)
        daemon.start()
        done = run("--config", daemon.config, "move", f"sqlite:///{tmp_path}/back.db")
        assert (done.code, done.out, "Stop it" in done.err) == (75, "", True)


# Python that runs before the daemon: it has looked at the database, and waits before it joins.
JOIN_LATE = """
import asyncio, pathlib
from premblyd.hosts.membership import Membership
folder, join = pathlib.Path({folder!r}), Membership.join

async def late(self):
    (folder / "looked").touch()
    while not (folder / "go").exists():
        await asyncio.sleep(0.01)
    return await join(self)

Membership.join = late
"""


@pytest.mark.parametrize("way", ["source", "target"])
@pytest.mark.parametrize("engine", ["file", "server"])
def test_no_daemon_starts_on_a_database_that_a_move_has_found_free(
    path: Path, server: Server, tmp_path: Path, engine: str, way: str
) -> None:
    """A process, for it is the start of a daemon that must be refused."""
    place = path if engine == "file" else server
    daemon = Premblyd(tmp_path, place=place)
    with getattr(moving, way)(place):
        status, said = daemon.fail_to_start()
    assert (status, "premblyd" in said) == (75, True)
    assert engine == "file" or "`premblyd move` is at work" in said
    if way == "target":
        other = tmp_path / "other.db"
        backend(other if engine == "server" else server).prepare()
        move_record(other if engine == "server" else server, place)
    with daemon:
        daemon.start()


@pytest.fixture
def late(server: Server, tmp_path: Path) -> Iterator["LateDaemon"]:
    """A daemon that has looked at the server's database and has not begun to work on it."""
    with ThreadPoolExecutor() as threads:
        daemon = Premblyd(tmp_path, place=server)
        before = JOIN_LATE.format(folder=str(tmp_path))
        ended = threads.submit(daemon.fail_to_start, before)
        wait_until((tmp_path / "looked").exists)
        yield LateDaemon(tmp_path / "go", ended)
        (tmp_path / "go").touch()


@dataclass(frozen=True)
class LateDaemon:
    go: Path
    ended: "Future[tuple[int, str]]"

    def join(self) -> tuple[int, str]:
        """Let it join, and return its exit status and standard error."""
        self.go.touch()
        return self.ended.result()


def test_a_daemon_that_looked_before_a_move_began_does_not_join_meanwhile(
    late: LateDaemon, odd: Path, server: Server
) -> None:
    before = rows_of(odd)
    refused: list[tuple[int, str]] = []

    def watch(step: MoveStep) -> None:
        if not refused:
            refused.append(late.join())

    move_record(odd, server, watch=watch)
    [(status, said)] = refused
    assert (status, "`premblyd move` is at work" in said) == (75, True)
    assert rows_of(server) == before


def test_a_daemon_that_looked_before_a_move_began_does_not_join_what_is_half_moved(
    late: LateDaemon, odd: Path, server: Server
) -> None:
    stop_half_way(odd, server)
    status, said = late.join()
    assert (status, "it has only a part of what `premblyd move` brings" in said) == (75, True)
    move_record(odd, server)
    assert rows_of(server) == rows_of(odd)


def test_a_daemon_that_slept_while_it_was_looked_for_acknowledges_nothing_that_is_emptied(
    path: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process, for it sleeps by SIGSTOP."""
    monkeypatch.setattr(on_server, "WATCHED_S", 0.3)
    monkeypatch.setattr(beacon, "MOST_WATCHED_S", 0.6)
    insert_all(path, odd_rows())
    (tmp_path / "slept").mkdir()
    with Premblyd(tmp_path / "slept", place=server, hosts={"lost_after": "60s"}) as daemon:
        daemon.start()
        daemon.signal(SIGSTOP)
        stop_half_way(path, server)
        daemon.signal(SIGCONT)
        assert daemon.send(b'{"reference":"r-1"}').status == 503
        move_record(path, server)
        moved, kept = rows_of(server), rows_of(path)
        assert moved | {"host": None} == kept | {"host": None}  # where the daemon may be by now
        wait_until(lambda: daemon.send(b'{"reference":"r-2"}').status == 200)


def test_who_was_erased_stays_so_on_the_new_database(
    server: Server, path: Path, tmp_path: Path
) -> None:
    """The key of the digests comes along: the target's own is another."""
    with closing(connect_operator(path)) as database:
        number = database.transact(forgetting("ref-1"))
    move_record(path, server)
    with asyncio.Runner() as runner:
        store = Store(server, runner.get_loop())
        added = store.add("crm", reference="ref-1")
        assert added.is_erased
        assert store.rows("SELECT erasure_id, reference FROM event") == [(number, None)]
        store.close()


def test_pending_deliveries_run_on_the_new_database(server: Server, tmp_path: Path) -> None:
    hook = shell("record", f'echo "$PREMBLY_EVENT" >> {tmp_path}/ran', retry=AT_ONCE)
    slow = hook | {"shell": "sleep 30", "concurrency": 1}
    with Premblyd(tmp_path, actions=[slow]) as daemon:
        daemon.start()
        for number in range(3):
            body = b'{"response_code":"00","reference":"r-%d"}' % number
            assert daemon.send(body).status == 200
        wait_until(lambda: daemon.rows("SELECT 1 FROM attempt"))
        daemon.kill()
        before = digest_of(daemon.database)
        moved = run("--config", daemon.config, "move", server.url)
        assert (moved.code, digest_of(daemon.database)) == (0, before)
        daemon.configure(database=server.url, actions=[hook])
        daemon.start()
        succeeded = "SELECT count(*) FROM delivery WHERE state = 'succeeded'"
        wait_until(lambda: rows(server, succeeded) == [(3,)])
        assert daemon.send(b'{"response_code":"00","reference":"r-9"}').json["event"] == 4


def test_the_command_says_what_came_over_and_what_to_do_now(server: Server, tmp_path: Path) -> None:
    config = record(tmp_path)
    old = tmp_path / "premblyd.db"
    events, deliveries = (len(rows_of(old)[name]) for name in ("event", "delivery"))
    done = run("--config", config, "move", server.url)
    assert done.code == 0
    assert f"Moved and verified: {events} events, {deliveries} deliveries," in done.out
    assert f"{old} is as it was." in done.out
    assert f"  database: {server.url}\n" in done.out
    assert f"copying event: {events} of {events}\n" in done.err
    assert f"verifying event: {events} of {events}\n" in done.err
    assert not [word for word in PERSONAL if word in done.out + done.err]


def test_the_command_s_json_has_each_table(server: Server, tmp_path: Path) -> None:
    config = record(tmp_path)
    done = run("--config", config, "move", server.url, "--json")
    assert (done.code, done.err) == (0, "")
    said = json.loads(done.out)
    assert (said["from"], said["to"]) == (str(tmp_path / "premblyd.db"), server.url)
    counts = {name: len(found) for name, found in rows_of(tmp_path / "premblyd.db").items()}
    assert {table["table"]: table["rows"] for table in said["tables"]} == counts


def test_a_terminal_shows_a_bar(server: Server, tmp_path: Path) -> None:
    config = record(tmp_path)
    shown = "\n".join(on_terminal(120, "--config", config, "move", server.url))
    assert "Moved and verified" in shown
    assert "event: 13 of 13" not in shown, "lines are for what is no terminal"


def test_ctrl_c_is_no_failure(odd: Path, server: Server, tmp_path: Path) -> None:
    daemon = Premblyd(tmp_path)
    interrupt = PLACES["after a commit"].format(target="postgresql.PostgresqlSide")
    ended = move_process(daemon.config, server.url, DIE.replace("SIGKILL", "SIGINT") + interrupt)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        75,
        "Interrupted. Run the same again: it goes on where it stopped.",
    )
    assert run("--config", daemon.config, "move", server.url).code == 0


def test_what_is_no_database_to_move_to_is_said(path: Path, server: Server, tmp_path: Path) -> None:
    daemon = Premblyd(tmp_path)

    def said(*arguments: str) -> tuple[int, str]:
        done = run("--config", daemon.config, "move", *arguments)
        assert done.out == ""
        return done.code, done.err

    assert said("sqlite:///other.db") == (
        1,
        f"The record is in a SQLite file already, {path}. Stop the daemon and copy the file.\n",
    )
    code, text = said("/var/lib/premblyd.db")
    assert (code, "should be postgresql://" in text) == (2, True)
    code, text = said(f"postgresql://me:{HUSH}@localhost/premblyd")
    assert (code, HUSH in text, "--password-file" in text) == (2, False, True)
    code, text = said(server.url, "--password-file", str(tmp_path / "none"))
    assert (code, "can't be read: No such file" in text) == (2, True)
    code, text = said(f"postgresql:///premblyd?host={tmp_path}")
    assert (code, "PostgreSQL can't be reached" in text) == (75, True)
    daemon.configure(database=server.url)
    code, text = said(server.url)
    assert (code, "pg_dump" in text) == (1, True)
    daemon.configure(database="sqlite:///none.db")
    code, text = said(server.url)
    assert (code, text.startswith("There is no database at")) == (1, True)
    assert not (tmp_path / "none.db.lock").exists()


def test_a_server_that_is_away_is_told_in_the_same_words_where_nothing_was_loaded_yet(
    path: Path, tmp_path: Path
) -> None:
    """An interpreter of its own: here the driver, and our words for what it says, are loaded."""
    daemon = Premblyd(tmp_path)
    typed = command("--config", daemon.config, "move", f"postgresql:///premblyd?host={tmp_path}")
    done = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert done.returncode == 75
    assert done.stderr.startswith("PostgreSQL can't be reached: ")


def test_a_plain_role_with_a_password_from_a_file_is_enough(
    odd: Path, empty_server: Server, tmp_path: Path
) -> None:
    """It owns its database, and is not the server's superuser."""
    role = f"role_{uuid.uuid4().hex[:8]}"
    name = empty_server.url.split("/")[3].partition("?")[0]
    with psycopg.connect(empty_server.url) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hush'")
        owner.execute(f"ALTER DATABASE {name} OWNER TO {role}")
    url = empty_server.url.replace("tests@", f"{role}@")
    (tmp_path / "password").write_text("hush\n")
    daemon = Premblyd(tmp_path)
    done = run("--config", daemon.config, "move", url, "--password-file", tmp_path / "password")
    assert (done.code, f"url: '{url}'" in done.out, "hush" in done.out) == (0, True, False)
    daemon.configure(database=url)
    done = run("--config", daemon.config, "move", f"sqlite:///{tmp_path}/back.db")
    assert (done.code, rows_of(tmp_path / "back.db")) == (0, rows_of(odd))


def test_a_database_that_cannot_hold_every_text_is_not_filled(path: Path) -> None:
    with needs_machine():
        cluster, _ = postgresql.of_session()
    name = f"ascii_{uuid.uuid4().hex[:8]}"
    with cluster.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(CannotStartError, match="ENCODING 'UTF8'"):
        move_record(path, Server(cluster.url(name)))


@needs_root
def test_what_root_makes_belongs_to_the_daemon(server: Server, path: Path, tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    os.chown(path, NOBODY, NOBODY)
    move_record(path, server)
    move_record(server, tmp_path / "back.db")
    assert {file.stat().st_uid for file in tmp_path.iterdir()} == {NOBODY}
