"""What commands do on a PostgreSQL server: whom they let in, and what they say when it won't."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from premblyd.cli.following import _Late
from premblyd.record.choosing import EventFilter
from premblyd.store.connections import connect_read_only
from tests.support import postgresql
from tests.support.commands import Ran, run
from tests.support.database import url_of
from tests.support.needs import needs_machine
from tests.support.store import Store

pytestmark = pytest.mark.postgresql

HUSH = "hush-database-password"
READ = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO auditor"


@pytest.fixture
def store() -> Iterator[Store]:
    with asyncio.Runner() as runner:
        with needs_machine():
            store = Store(postgresql.new_database(*postgresql.of_session()), runner.get_loop())
        store.add("crm", body=b'{"response_code": "00"}')
        yield store
        store.close()


@pytest.fixture
def auditor(store: Store) -> str:
    """The database as a role has it that may only read."""
    store.by_hand(
        "DO $$ BEGIN CREATE ROLE auditor LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    store.by_hand(READ)
    return url_of(store.place).replace("//tests@", "//auditor@")


@pytest.mark.parametrize(
    "arguments",
    ["events", "deliveries", "rejections", "pending", "show 1", "stats", "events --json"],
)
def test_who_may_only_read_sees_every_list(auditor: str, arguments: str) -> None:
    done = run(*arguments.split(), "--database", auditor)
    assert (done.code, done.err) == (0, "")


def test_status_of_a_server_asks_for_no_daemon(auditor: str) -> None:
    done = run("status", "--database", auditor)
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("!  1 delivery of crm should have run by now")


def test_who_may_only_read_is_told_what_is_missing(auditor: str, store: Store) -> None:
    done = run("show", "1", "--reveal", "--database", auditor)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Nothing is shown: that you look could not be recorded.")
    assert "this role lacks a right on table operator_action" in done.err
    assert "firstName" not in done.err
    assert store.rows("SELECT * FROM operator_action") == []


@pytest.mark.parametrize("arguments", ["cancel --delivery 1", "replay --pending"])
def test_who_may_not_write_changes_nothing(
    auditor: str, store: Store, tmp_path: Path, arguments: str
) -> None:
    config = tmp_path / "premblyd.yaml"
    config.write_text(
        f"database: {auditor}\nlisten: 127.0.0.1:0\n"
        "endpoints: [{name: a, path: /a, keys: {live: hush}}]\n"
        "actions: [{name: crm, response_codes: ['*'], shell: 'true'}]\n"
    )
    store.by_hand("UPDATE delivery SET due_at_ms = 9999999999999")
    done = run(*arguments.split(), "--config", config)
    assert (done.code, done.out) == (1, "")
    assert "this role lacks a right on table delivery" in done.err
    assert store.rows("SELECT state FROM delivery") == [("pending",)]


def test_a_role_that_may_nothing_is_told_so(store: Store, auditor: str) -> None:
    store.by_hand("REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM auditor")
    done = run("events", "--database", auditor)
    assert (done.code, done.out) == (1, "")
    assert "this role lacks a right on table" in done.err


def test_a_server_that_is_not_there_is_a_try_again_without_a_password(tmp_path: Path) -> None:
    url = f"postgresql://auditor@/record?host={tmp_path}"
    done = run("events", "--database", url, PGPASSWORD=HUSH)
    assert (done.code, done.out) == (75, "")
    assert done.err.startswith("PostgreSQL can't be reached: ")
    assert HUSH not in done.err


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://a:{HUSH}@host/db",
        f"postgresql://a@host/db?password={HUSH}",
        f"postgresql://a:of/{HUSH}@host/db",  # not written as a URL needs it
        f"postgresql://a:of?{HUSH}@host/db",
        f"postgresql://a:[{HUSH}@host/db",
    ],
)
def test_a_password_on_the_command_line_is_refused_and_not_repeated(url: str) -> None:
    done = run("events", "--database", url)
    assert (done.code, done.out) == (2, "")
    assert "libpq takes it from PGPASSWORD or ~/.pgpass" in done.err
    assert HUSH not in done.err


def test_an_empty_database_says_who_makes_it(store: Store) -> None:
    cluster, _ = postgresql.of_session()
    empty = postgresql.new_database(cluster)
    done = run("events", "--database", empty.url)
    assert (done.code, done.out) == (78, "")
    assert "Start the daemon once: it migrates." in done.err


def test_before_an_upgrade_no_copy_is_made_and_it_is_said(store: Store) -> None:
    saved = run("upgrading", "save", url_of(store.place))
    assert (saved.code, saved.err) == (0, "")
    assert saved.out.startswith("The record is in PostgreSQL: no copy is made of it")
    assert run("upgrading", "restore", url_of(store.place)) == Ran(0, "", "")


def test_followed_events_that_another_host_stores_late_are_shown_once(
    store: Store,
) -> None:
    """A number is taken before its transaction commits: higher ones may be seen earlier."""
    late = _Late()
    copy = 'SELECT (json_populate_record(e, \'{"id": 2, "key": "late"}\')).* FROM event e LIMIT 1'
    store.by_hand("SELECT setval(pg_get_serial_sequence('event', 'id'), 3)")
    store.add(body=b"four")
    database = connect_read_only(store.place)
    late.expect(database, 0, 4)
    assert late.read(database, EventFilter()) == []
    store.by_hand(f"INSERT INTO event {copy}")
    assert [row.id for row in late.read(database, EventFilter())] == [2]
    assert late.read(database, EventFilter()) == []
    database.close()
