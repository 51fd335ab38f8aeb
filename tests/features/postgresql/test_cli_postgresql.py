"""What commands do on a PostgreSQL server: whom they let in, and what they say when it won't."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from premblyd.features.postgresql.membership import SharedHosts
from premblyd.store.connections import connect_read_only
from tests.support import postgresql
from tests.support.commands import Ran, run
from tests.support.configuration import configuration, shell
from tests.support.daemon import Premblyd
from tests.support.database import away, url_of
from tests.support.hosts import identity
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


def test_who_may_only_read_sees_every_list(auditor: str) -> None:
    for name in ("events", "deliveries", "rejections", "unsettled", "show 1", "stats"):
        done = run(*name.split(), "--database", auditor)
        assert (done.code, done.err) == (0, "")
    done = run("status", "--database", auditor)
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("!  1 delivery of crm should have run by now"), "of no daemon"


def test_who_may_only_read_is_told_what_is_missing(auditor: str, store: Store) -> None:
    done = run("show", "1", "--reveal", "--database", auditor)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Nothing is shown, because your access could not be recorded.")
    assert "this role lacks a right on table operator_action" in done.err
    assert "firstName" not in done.err
    assert store.rows("SELECT * FROM operator_action") == []


def test_who_may_not_write_changes_nothing(auditor: str, store: Store, tmp_path: Path) -> None:
    config = tmp_path / "premblyd.yaml"
    actions = [shell("crm", "true", "*")]
    config.write_text(json.dumps(configuration(database=auditor, actions=actions)))
    store.by_hand("UPDATE delivery SET due_at_ms = 9999999999999")
    for arguments in ("cancel --delivery 1", "replay --pending"):
        done = run(*arguments.split(), "--config", config)
        assert (done.code, done.out) == (1, "")
        assert "this role lacks a right on table delivery" in done.err
    assert store.rows("SELECT state FROM delivery") == [("pending",)]


def test_a_server_that_is_not_there_is_a_try_again_without_a_password(tmp_path: Path) -> None:
    url = f"postgresql://auditor@/record?host={tmp_path}"
    done = run("events", "--database", url, PGPASSWORD=HUSH)
    assert (done.code, done.out) == (75, "")
    assert "PostgreSQL can't be reached: " in done.err
    assert HUSH not in done.err


def test_status_without_the_server_says_what_runs_what_webhooks_get_and_what_to_do(
    store: Store, tmp_path: Path
) -> None:
    """A process, for it is asked how it is."""
    with Premblyd(tmp_path, place=store.place) as daemon:
        daemon.start()
        with away(store.place):
            done = run("status", "--config", daemon.config)
            said = json.loads(run("status", "--json", "--config", daemon.config).out)
        assert (done.code, done.err) == (2, ""), "what monitoring takes for critical"
        assert f"(pid {daemon.process.pid}) runs since" in done.out
        assert "\n!! The daemon can't store" in done.out
        assert (said["ok"], said["daemon"]["pid"]) == (False, daemon.process.pid)
        assert [item["kind"] for item in said["attention"]] == ["database"]
        assert daemon.stop() == 0


def test_a_password_on_the_command_line_is_refused_and_not_repeated() -> None:
    not_written_as_a_url_needs_it = f"postgresql://a:of/{HUSH}@host/db"
    plain, asked = f"postgresql://a:{HUSH}@host/db", f"postgresql://a@host/db?password={HUSH}"
    for url in (plain, asked, not_written_as_a_url_needs_it):
        done = run("events", "--database", url)
        assert (done.code, done.out) == (2, "")
        assert "libpq takes it from PGPASSWORD or ~/.pgpass" in done.err
        assert HUSH not in done.err


def test_an_empty_database_says_who_makes_it(store: Store) -> None:
    cluster, _ = postgresql.of_session()
    done = run("events", "--database", postgresql.new_database(cluster).url)
    assert (done.code, done.out) == (78, "")
    assert "Start the daemon once: it makes a new one." in done.err


def host(store: Store, name: str, *actions: str, lost_after_ms: int = 10_000) -> SharedHosts:
    hosts = SharedHosts(store.writer, identity(name, version="0.2.0"), actions, lost_after_ms)
    with closing(connect_read_only(store.place)) as database:
        store.wait(hosts.join(database.now_ms()))
    return hosts


def config_of(store: Store, folder: Path) -> Path:
    config = folder / "premblyd.yaml"
    settings = configuration(
        database=url_of(store.place), hosts={"name": "a"}, actions=[shell("crm", "true", "*")]
    )
    config.write_text(json.dumps(settings))
    return config


def test_hosts_are_listed_and_one_that_does_not_come_back_is_ended(
    store: Store, tmp_path: Path
) -> None:
    config = config_of(store, tmp_path)
    host(store, "a", "mail")
    store.wait(host(store, "b", "crm", "mail").leave(0))
    listed = run("hosts", "--config", config)
    assert (listed.code, listed.err) == (0, "")
    title, *rows = (line.split()[:4] for line in listed.out.splitlines())
    assert title == ["host", "state", "running", "waiting"]
    assert rows == [["a", "works", "0", "0"], ["b", "stopped", "0", "1"]]
    (a, b) = json.loads(run("hosts", "--json", "--database", url_of(store.place)).out)
    names = "name state worker version started_at_ms seen_at_ms ended_at_ms lost_after_ms"
    assert list(a) == [*names.split(), "running", "waiting", "actions"]
    assert (b["state"], b["waiting"], b["actions"]) == ("stopped", 1, ["crm", "mail"])
    for name, done in (
        ("a", Ran(1, "", "a is running: stop premblyd there, and wait a minute.\n")),
        ("b", Ran(0, "Removed b: nothing waits for it any more.\n", "")),
        ("b", Ran(1, "", "There is no host b to remove: `premblyd hosts` lists them.\n")),
    ):
        assert run("hosts", "forget", name, "--config", config) == done
    assert store.rows("SELECT action, note FROM operator_action") == [("forget", "host b")]
    left = json.loads(run("hosts", "--json", "--config", config).out)
    assert [row["name"] for row in left] == ["a"]
