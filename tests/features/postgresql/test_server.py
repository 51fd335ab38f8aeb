"""A PostgreSQL server of the test's own: it is stopped, killed, or set up in ways that matter."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from premblyd.features.postgresql import opening
from premblyd.features.postgresql.settings import Server
from premblyd.features.postgresql.transaction import NOT_ON_STANDBY
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import CannotStartError, PremblydError, StoreUnavailableError
from premblyd.store.connections import backend
from tests.features.postgresql.patience import impatient
from tests.support import postgresql
from tests.support.commands import run
from tests.support.configuration import configuration
from tests.support.database import rows, url_of
from tests.support.needs import needs_machine
from tests.support.pooler import pooler
from tests.support.postgresql import FAST, SUPERUSER, Cluster
from tests.support.queue import claim
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store, new_event
from tests.support.waiting import wait_until
from tests.support.wire import Wire

pytestmark = pytest.mark.postgresql

CANCEL = """SELECT pg_cancel_backend(pid) FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND datname = current_database()"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server at work, which the tests may stop, and start again."""
    with needs_machine():
        postgresql.binaries()
    with postgresql.cluster(**FAST) as cluster:
        hba = cluster.data / "pg_hba.conf"
        hba.write_text("local all guarded scram-sha-256\n" + hba.read_text())
        cluster.start()
        with cluster.connect() as connection:
            connection.execute("CREATE ROLE guarded LOGIN PASSWORD 'hush-right'")
            connection.execute("CREATE ROLE reader LOGIN")
        yield cluster


@pytest.fixture
def server(cluster: Cluster) -> Server:
    return postgresql.prepared_database(cluster)


def why(store: Store, body: bytes = b"{}") -> str:
    with pytest.raises(StoreUnavailableError) as caught:
        store.add("crm", body=body)
    return caught.value.reason


def as_role(server: Server, role: str, password: str | None = None) -> Server:
    return Server(server.url.replace(f"//{SUPERUSER}@", f"//{role}@"), password)


@pytest.mark.parametrize("end", [Cluster.stop, Cluster.kill])
def test_a_server_that_stops_or_is_killed_is_waited_for(
    store: Store, cluster: Cluster, end: Callable[[Cluster], None]
) -> None:
    store.add("crm", body=b"1")
    end(cluster)
    for _ in range(2):
        assert "can't be reached" in why(store)
    cluster.start()
    assert store.add("crm", body=b"2").is_new
    assert store.bodies() == [b"1", b"2"]


def test_who_is_refused_is_told_why_and_no_password_is_shown(
    server: Server, tmp_path: Path
) -> None:
    config = tmp_path / "premblyd.yaml"
    name = server.url.partition("@/")[2].partition("?")[0]
    guarded = {"url": as_role(server, "guarded").url, "password": {"file": "of-guarded"}}

    def said(database: object) -> str:
        config.write_text(json.dumps(configuration(database=database)))
        done = run("status", "--config", config)
        return " ".join((done.out + done.err).split())

    (tmp_path / "of-guarded").write_text("hush-wrong")
    for database, why in (
        (guarded, 'password authentication failed for user "guarded"'),
        (server.url.replace(name, "no_such"), 'database "no_such" does not exist'),
        (as_role(server, "stranger").url, 'role "stranger" does not exist'),
    ):
        text = said(database)
        assert why in text
        assert "hush" not in text
    assert backend(as_role(server, "guarded", "hush-right")).inspect().facts
    with pytest.raises(PremblydError, match="password") as caught:
        backend(as_role(server, "guarded", "hush-wrong")).prepare()
    assert "hush" not in str(caught.value)


def test_a_server_without_tls_is_refused_where_it_must_have_it(
    server: Server, cluster: Cluster
) -> None:
    name = server.url.partition("@/")[2].partition("?")[0]
    with Wire(cluster) as wire, pytest.raises(StoreUnavailableError, match="SSL"):
        backend(wire.server(name, SUPERUSER, "sslmode=require")).prepare()


# What a 200 means, when a standby is to have the event too


@pytest.fixture
def lonely(cluster: Cluster, store: Store) -> Iterator[Callable[[str], None]]:
    """Commits wait for a standby that there is not. The store was made before. What it returns
    changes whom they wait for; empty: for nobody."""
    store.add("crm", body=b"before")

    def wait_for(names: str) -> None:
        with cluster.connect() as connection:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        cluster.reload()

    wait_for("*")
    warned: list[object] = []
    with psycopg.connect(url_of(store.place), autocommit=True) as probe:
        probe.execute("SET synchronous_commit = on")
        probe.add_notice_handler(warned.append)

        def commit_until_one_waits() -> None:  # then the server has read its settings
            while not warned:
                probe.execute("UPDATE record SET alive_at_ms = COALESCE(alive_at_ms, 0) + 1")

        with ThreadPoolExecutor(1) as thread:
            committing = thread.submit(commit_until_one_waits)
            cancel_waiting(store.place)
            committing.result()
    yield wait_for
    wait_for("")


def cancel_waiting(place: DatabaseAddress) -> None:
    """Wait until a commit waits for its standby, and end that."""
    wait_until(lambda: rows(place, CANCEL) == [(True,)])


@pytest.mark.usefixtures("lonely")
def test_what_no_standby_has_is_not_acknowledged_and_holds_nobody_for_long(store: Store) -> None:
    with impatient(store):
        assert why(store, b"alone") == "PostgreSQL does not answer"
    assert store.bodies() == [b"before"]  # it is not seen as long as its commit waits


@pytest.mark.usefixtures("lonely")
def test_a_commit_whose_wait_for_the_standby_was_cancelled_is_not_acknowledged(
    store: Store,
) -> None:
    async def scene() -> Exception | object:
        adding = asyncio.ensure_future(store.inbox.add(new_event(b"alone"), []))
        await asyncio.to_thread(cancel_waiting, store.place)
        [result] = await asyncio.gather(adding, return_exceptions=True)
        return result

    result = store.wait(scene())
    assert isinstance(result, StoreUnavailableError)
    assert result.reason == NOT_ON_STANDBY
    assert store.bodies() == [b"before", b"alone"]  # it is here, and perhaps nowhere else


def test_a_claim_that_still_waits_for_a_standby_costs_no_attempt(
    store: Store, lonely: Callable[[str], None]
) -> None:
    with impatient(store), pytest.raises(StoreUnavailableError):
        claim(store, crm=1)
    assert not store.wait(store.queue.release_unstarted([], NOW_MS)), "it may yet be kept"
    assert claim(store, crm=1).jobs == []
    lonely("")
    wait_until(lambda: store.rows("SELECT state FROM delivery") == [("running",)])
    wait_until(lambda: store.wait(store.queue.release_unstarted([], NOW_MS)))
    [job] = claim(store, crm=1).jobs
    assert (job.attempt, job.attempts_left) == (2, 2)


# What `check` says


def test_an_inspection_says_what_is_there(server: Server, cluster: Cluster) -> None:
    found, new = backend(server).inspect(), postgresql.new_database(cluster)
    assert found.facts[0].startswith("The database is reached: PostgreSQL ")
    assert "fsync" in found.facts[1]
    assert "the daemon makes them" in backend(new).inspect().facts[1]


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler_stops_the_start(server: Server, cluster: Cluster, mode: str) -> None:
    with needs_machine(), pooler(cluster, server, mode) as pooled:
        assert "pooler" in " ".join(backend(pooled).inspect().obstacles)
        with pytest.raises(CannotStartError, match="pooler"):
            backend(pooled).prepare()


def test_texts_that_do_not_fit_a_database_stop_the_start(cluster: Cluster) -> None:
    with cluster.connect() as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    place = Server(cluster.url("latin"))
    with pytest.raises(CannotStartError, match="encoding is LATIN1"):
        backend(place).prepare()
    assert "LATIN1" in backend(place).inspect().obstacles[0]


@for_each(
    ("url", "words"),
    [
        ("postgresql://me@host/x?sslmod=require", "sslmod"),
        ("postgresql://me@host/x?p%61ssword=hush", "holds a password"),
    ],
)
def test_a_url_that_libpq_can_not_use_is_told_before_anything_is_tried(
    url: str, words: str
) -> None:
    with pytest.raises(CannotStartError, match=words) as caught:
        backend(Server(url))
    assert "hush" not in str(caught.value)


def test_what_the_url_says_goes_before_the_defaults() -> None:
    url = "postgres://me@one,two/x?connect_timeout=9&application_name=mine&sslmode=verify-full"
    params = opening.parameters(Server(url, "hush"))
    assert params["host"] == "one,two"
    assert (params["connect_timeout"], params["application_name"]) == ("9", "mine")
    assert (params["sslmode"], params["password"]) == ("verify-full", "hush")
    assert opening.parameters(Server("postgres://me@one,two/x"))["connect_timeout"] == "3"


def test_without_its_library_the_start_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from premblyd.features.postgresql.settings import Server\n"
        "from premblyd.store.connections import backend\n"
        "backend(Server('postgresql://me@host/x'))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "CannotStartError: PostgreSQL needs the library psycopg" in ended.stderr
    assert ".[postgresql]" in ended.stderr
