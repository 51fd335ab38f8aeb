"""Several versions of the program on one database: who may change the schema, and when."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from premblyd.databases import Server
from premblyd.engines.postgresql import beacon, opening, schema
from premblyd.errors import OlderDaemonsError, SchemaError, StoreUnavailableError
from premblyd.hosts.register import Hosts
from premblyd.model import history
from tests.support import postgresql
from tests.support.hosts import identity
from tests.support.needs import needs_machine
from tests.support.postgresql import rows
from tests.support.store import NOW_MS, Store
from tests.support.upgrades import COMPATIBLE, INCOMPATIBLE, NAME, NextVersion
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgresql

FLOOR = "SELECT migration FROM schema_floor"
APPLIED = "SELECT name FROM schema_migration ORDER BY id"
KNOWN = sorted(file.stem for file in history.MIGRATIONS.glob("0*.py"))
BEFORE = [(name,) for name in KNOWN]
AFTER = [*BEFORE, (NAME,)]
BEATS = "UPDATE host SET beat_count = beat_count + 1"
WATCHING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%FROM host WHERE%'
"""
WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
WHERE datname = current_database() AND NOT granted
"""
OPENERS: list[Callable[[Server], Any]] = [
    schema.prepare,
    lambda server: schema.connect_read_only(server).close(),
    lambda server: schema.connect_operator(server).close(),
]


@pytest.fixture(name="server")
def make_server() -> Server:
    """A database of the test's own: its schema changes."""
    with needs_machine():
        return postgresql.new_database(*postgresql.of_session())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacon, "WATCHED_S", 1.0)
    monkeypatch.setattr(beacon, "MOST_WATCHED_S", 1.0)
    monkeypatch.setattr(beacon, "GATHERED_S", 0.3)
    for module in (beacon, schema):
        monkeypatch.setattr(module, "LOOK_S", 0.02)
    monkeypatch.setattr(schema, "TABLE_WAIT", "100ms")
    monkeypatch.setattr(schema, "PAUSE_S", 0.05)
    monkeypatch.setattr(schema, "TRIES", 1000)  # on a busy machine too


@pytest.fixture(name="migrate")
def make_migrate(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], list[str]]:
    """What prepares the database as the next version, which has one migration more."""

    def migrate(text: str) -> list[str]:
        next_version = NextVersion(tmp_path / "next", text)
        with monkeypatch.context() as patched:
            next_version.be(patched)
            return schema.prepare(server)

    return migrate


@pytest.fixture(name="pool")
def make_pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def host(store: Store, name: str = "lagos") -> Hosts:
    """A daemon of this version."""
    return Hosts(store.writer, identity(name, pid=7, version="1.2"))


@contextlib.contextmanager
def beating(server: Server) -> Iterator[None]:
    """Have all daemons beat."""
    ended = threading.Event()

    def beat() -> None:
        with psycopg.connect(server.url, autocommit=True) as connection:
            while not ended.wait(0.05):
                connection.execute(BEATS)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


Migrate = Callable[[str], list[str]]


def test_wherever_the_first_start_was_ended_the_next_one_goes_on() -> None:
    with needs_machine():
        cluster, _ = postgresql.of_session()
    for made in range(len(KNOWN)):
        place = postgresql.new_database(cluster)
        with contextlib.closing(opening.connect(place)) as database:
            its_history = history.History(database)
            for _ in range(made):
                its_history.apply_next()
        assert schema.prepare(place) == KNOWN[made:]


def test_an_older_program_works_on_what_a_compatible_migration_leaves(
    store: Store, server: Server, migrate: Migrate
) -> None:
    with beating(server):
        store.wait(host(store).join((), NOW_MS))
        assert migrate(COMPATIBLE) == [NAME]
    assert rows(server, APPLIED) == AFTER
    assert rows(server, FLOOR) == [("0005_hosts",)]
    for opener in OPENERS:
        opener(server)
    store.add("crm")
    assert store.rows("SELECT reference, more FROM event") == [("ref-1", None)]
    store.wait(host(store, "abuja").join((), NOW_MS))


@pytest.mark.parametrize("opener", OPENERS)
def test_an_older_program_refuses_what_another_migration_leaves(
    server: Server, migrate: Migrate, opener: Callable[[Server], Any]
) -> None:
    assert migrate(INCOMPATIBLE) == [NAME]
    assert rows(server, FLOOR) == [(NAME,)]
    with pytest.raises(SchemaError, match=rf"newer premblyd.*{NAME}.*Install that version") as why:
        opener(server)
    assert why.value.exit_code == 78


def test_a_database_of_a_version_that_knew_no_floor_is_refused(server: Server) -> None:
    postgresql.by_hand(
        server, "INSERT INTO schema_migration (name, applied) VALUES (?, now())", NAME
    )
    postgresql.by_hand(server, "DELETE FROM schema_floor")
    with pytest.raises(SchemaError):
        schema.prepare(server)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_schema_put_before_that_of_the_tables_begins_no_second_record(
    server: Server, opener: Callable[[Server], Any]
) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {postgresql.SUPERUSER}")  # "$user" is first
    with pytest.raises(SchemaError, match="has its tables in the schema public") as caught:
        opener(server)
    assert rows(server, "SELECT count(*) FROM pg_tables WHERE schemaname = 'tests'") == [(0,)]
    advised = str(caught.value).rpartition("?")[2]
    opener(Server(f"{server.url}&{advised}"))


def test_daemons_that_would_not_survive_it_are_named_and_nothing_is_changed(
    store: Store, server: Server, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHED_S", "MOST_WATCHED_S"):  # a busy machine holds up who beats
        monkeypatch.setattr(beacon, name, 60.0)
    for name in ("lagos", "abuja"):
        store.wait(host(store, name).join((), NOW_MS))
    with beating(server), pytest.raises(OlderDaemonsError) as why:
        migrate(INCOMPATIBLE)
    assert why.value.exit_code == 75
    assert "lagos (process 7, premblyd 1.2), abuja (process 7, premblyd 1.2)" in str(why.value)
    assert NAME in str(why.value)
    assert "systemctl stop" in str(why.value)
    assert rows(server, APPLIED) == BEFORE
    assert rows(server, FLOOR) == [("0005_hosts",)]
    assert rows(server, "SELECT ended FROM host ORDER BY id") == [(None,), (None,)]


def test_daemons_that_have_ended_or_are_dead_do_not_stand_in_the_way(
    store: Store, server: Server, migrate: Migrate
) -> None:
    stopped, killed = host(store, "stopped"), host(store, "killed")
    for each in (stopped, killed):
        store.wait(each.join((), NOW_MS))
    store.wait(stopped.leave(NOW_MS))
    assert migrate(INCOMPATIBLE) == [NAME]
    ended = [("stopped", "stopped"), ("killed", "lost")]
    assert rows(server, "SELECT name, ended FROM host ORDER BY id") == ended


def test_a_daemon_that_beats_seldom_is_watched_until_it_can_have_beaten(
    store: Store, server: Server, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beacon, "WATCHED_S", 0.05)
    monkeypatch.setattr(beacon, "MOST_WATCHED_S", 60.0)
    store.wait(host(store).join((), NOW_MS))
    postgresql.by_hand(server, "UPDATE host SET beat_count = 1, started_at_ms = seen_at_ms - 10000")

    def beat_late() -> None:
        wait_until(lambda: rows(server, WATCHING) == [(1,)])
        time.sleep(0.3)  # longer than WATCHED_S
        postgresql.by_hand(server, BEATS)

    late = threading.Thread(target=beat_late)
    late.start()
    with pytest.raises(OlderDaemonsError):
        migrate(INCOMPATIBLE)
    late.join()


def test_a_daemon_that_comes_back_after_an_incompatible_migration_does_not_go_on(
    store: Store, server: Server, migrate: Migrate
) -> None:
    asleep = host(store)
    store.wait(asleep.join((), NOW_MS))
    migrate(INCOMPATIBLE)
    with pytest.raises(SchemaError, match="Install that version"):
        store.wait(asleep.revive(NOW_MS))
    assert rows(server, "SELECT ended FROM host ORDER BY id") == [("lost",)]


def test_two_that_start_at_once_migrate_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor
) -> None:
    NextVersion(tmp_path / "next", COMPATIBLE).be(monkeypatch)
    started = [pool.submit(schema.prepare, server) for _ in range(4)]
    assert sorted(each.result() for each in started) == [[], [], [], [NAME]]
    assert rows(server, APPLIED) == AFTER


def test_two_that_start_on_an_empty_database_make_it_once(pool: ThreadPoolExecutor) -> None:
    with needs_machine():
        cluster, _ = postgresql.of_session()
    server = postgresql.new_database(cluster)
    started = [pool.submit(schema.prepare, server) for _ in range(3)]
    assert sorted(each.result() for each in started) == [[], [], KNOWN]


def test_no_older_daemon_begins_while_the_schema_changes(
    store: Store, server: Server, migrate: Migrate, pool: ThreadPoolExecutor
) -> None:
    """It has looked at the schema before, and is about to work on it."""
    beginner = host(store)
    gate = '\n    db.execute_sql("SELECT pg_advisory_xact_lock(17)")\n'
    with psycopg.connect(server.url) as holder:
        holder.execute("SELECT pg_advisory_lock(17)")
        holder.commit()
        migrated = pool.submit(migrate, INCOMPATIBLE + gate)
        wait_until(lambda: rows(server, WAITING) == [(1,)])
        release = threading.Timer(0.3, lambda: holder.execute("SELECT pg_advisory_unlock(17)"))
        release.start()
        with pytest.raises(SchemaError):
            store.wait(beginner.join((), NOW_MS))
        release.join()
    assert migrated.result() == [NAME]
    assert rows(server, "SELECT * FROM host") == []


def test_a_migration_that_waits_for_a_table_lets_webhooks_pass(
    store: Store, server: Server, migrate: Migrate, pool: ThreadPoolExecutor
) -> None:
    migrated: Future[list[str]]
    with psycopg.connect(server.url) as auditor:
        auditor.execute("SELECT count(*) FROM event").fetchall()  # in a transaction that lasts
        migrated = pool.submit(migrate, COMPATIBLE)
        wait_until(lambda: rows(server, WAITING) == [(1,)])
        for number in range(5):
            store.add("crm", body=b"%d" % number)
        assert not migrated.done()
    assert migrated.result() == [NAME]
    assert len(store.bodies()) == 5


def test_a_table_that_stays_taken_is_said_and_the_schema_stays(
    server: Server, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "TRIES", 2)
    with psycopg.connect(server.url) as auditor:
        auditor.execute("SELECT count(*) FROM event").fetchall()
        with pytest.raises(StoreUnavailableError, match="another transaction holds") as why:
            migrate(COMPATIBLE)
    assert why.value.exit_code == 75
    assert rows(server, APPLIED) == BEFORE
    assert rows(server, "SELECT to_regclass('more')::text") == [(None,)]


def test_an_index_is_made_while_daemons_write(server: Server, migrate: Migrate) -> None:
    text = (
        "compatible = True\natomic = False\n\n\ndef up(migrator, db):\n"
        '    db.execute_sql("CREATE INDEX CONCURRENTLY more ON event (status)")\n'
    )
    assert migrate(text) == [NAME]
    assert rows(server, "SELECT to_regclass('more')::text") == [("more",)]


def test_a_migration_that_runs_in_no_transaction_is_compatible() -> None:
    """The floor is raised in the transaction of what needs it raised."""
    for file in history.MIGRATIONS.glob("0*.py"):
        text = file.read_text()
        assert "\natomic = False" not in text or "\ncompatible = True" in text
