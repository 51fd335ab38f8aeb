"""PostgreSQL as the writer's engine: what goes wrong is told in plain words, and it goes on."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from premblyd.features.postgresql.engine import TRIES
from premblyd.features.postgresql.membership import SharedHosts
from premblyd.features.postgresql.opening import plain
from premblyd.features.postgresql.settings import Server
from premblyd.ground.errors import StoreUnavailableError
from premblyd.queue.inbox import NewDelivery, add_event
from premblyd.queue.register import Identity
from premblyd.store.engine import Transaction
from tests.features.postgresql.patience import impatient
from tests.support import postgresql
from tests.support.database import url_of
from tests.support.logs import Lines
from tests.support.postgresql import SUPERUSER
from tests.support.queue import SUCCEEDED, claim, finish
from tests.support.store import (
    NOW_MS,
    Store,
    is_fault,
    new_event,
    reason,
    transaction_open,
)
from tests.support.waiting import until
from tests.support.wire import Wire

pytestmark = pytest.mark.postgresql

CLOSE = "SELECT pg_terminate_backend(?)"


@pytest.fixture
def wire() -> Iterator[Wire]:
    cluster, _ = postgresql.of_session()
    with Wire(cluster) as wire:
        yield wire


@pytest.fixture
def far(wire: Wire, loop: asyncio.AbstractEventLoop, server: Server) -> Iterator[Store]:
    """A store whose server is at the other end of the wire."""
    name = server.url.partition("@/")[2].partition("?")[0]
    store = Store(wire.server(name, SUPERUSER, "connect_timeout=2"), loop)
    yield store
    store.close()


def backend_pid(store: Store) -> int:
    """Return the process that serves the writer."""

    def ask(transaction: Transaction) -> int:
        return int(transaction.connection.info.backend_pid)

    return store.call(ask)


def setting(store: Store, name: str) -> str:
    def ask(transaction: Transaction) -> str:
        [value] = transaction.connection.execute(f"SHOW {name}").fetchone() or [""]
        return str(value)

    return store.call(ask)


# Errors of the server


@contextmanager
def failing(store: Store, code: str, times: int = 1 << 30) -> Iterator[None]:
    """Have the server raise an error at so many inserts of a delivery, whose text holds values."""
    store.by_hand("CREATE SEQUENCE failures")
    store.by_hand(
        f"""CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('failures') <= {times} THEN
                RAISE EXCEPTION 'hush %', NEW.action USING ERRCODE = '{code}';
            END IF;
            RETURN NEW;
        END $$"""
    )
    store.by_hand(
        "CREATE TRIGGER fail BEFORE INSERT ON delivery FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    yield
    store.by_hand("DROP FUNCTION fail CASCADE")
    store.by_hand("DROP SEQUENCE failures")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("25006", "only reads now"),
        ("53100", "disk of the PostgreSQL server is full"),
        ("55P03", "holds a lock"),
        ("57P01", "shuts down"),
        ("58030", "58030"),
    ],
)
def test_what_the_server_can_not_do_is_told_without_values_and_waited_for(
    store: Store, lines: Lines, code: str, words: str
) -> None:
    with failing(store, code):
        why = reason(store)
        assert words in why
        assert "hush" not in why
        assert store.rows("SELECT id FROM event") == []
    assert store.add("crm").is_new
    assert [line["event"] for line in lines] == ["store.unavailable", "store.recovered"]


@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_a_conflict_with_another_host_is_tried_again_and_done_once(
    store: Store, lines: Lines, code: str
) -> None:
    with failing(store, code, TRIES - 1):
        assert store.add("crm").is_new
    assert store.rows("SELECT (SELECT count(*) FROM event), count(*) FROM delivery") == [(1, 1)]
    assert lines == []


def test_what_goes_out_in_several_pieces_is_tried_again_and_done_once(store: Store) -> None:
    """So often that its statements come to be prepared, one in a piece that fails before it."""
    bodies = [b"%d" % number + bytes(5000) for number in range(48)]
    for turn in range(8):
        of_turn = bodies[turn * 6 : turn * 6 + 6]
        with failing(store, "40001", 1):
            added = [store.inbox.add(new_event(body), [NewDelivery("crm", 3)]) for body in of_turn]
            assert not any(is_fault(result) for result in store.wait_all(added))
    assert store.bodies() == bodies
    assert store.rows("SELECT count(*) FROM delivery") == [(48,)]


@pytest.mark.usefixtures("lines")
@pytest.mark.parametrize("code", ["23514", "42601"])
def test_a_fault_of_one_fails_it_alone(store: Store, code: str) -> None:
    with failing(store, code, 2):
        bad = store.inbox.add(new_event(b"bad"), [NewDelivery("crm", 3)])
        good = store.inbox.add(new_event(b"good"), [])
        results = store.wait_all([bad, good])
    assert is_fault(results[0])
    assert store.bodies() == [b"good"]


@pytest.mark.usefixtures("lines")
def test_what_another_was_first_with_is_tried_again_and_else_a_fault(store: Store) -> None:
    with failing(store, "23505", TRIES - 1):
        assert store.add("crm").is_new
    with failing(store, "23505"):
        [result] = store.wait_all([store.inbox.add(new_event(b"bad"), [NewDelivery("crm", 3)])])
    assert is_fault(result)
    assert store.rows("SELECT count(*) FROM event") == [(1,)]


# Connections that end


def test_a_connection_that_ended_while_nothing_was_done_costs_no_webhook(
    store: Store, lines: Lines
) -> None:
    for _ in range(2):
        store.rows(CLOSE, backend_pid(store))
        assert store.add("crm", body=os.urandom(8)).is_new
    assert lines == []


def test_a_connection_that_ends_within_a_transaction_costs_no_webhook(
    store: Store, lines: Lines
) -> None:
    pids: list[int] = []
    store.add("crm")

    def work(transaction: Transaction) -> None:
        pids.append(transaction.connection.info.backend_pid)
        if len(pids) == 1:
            store.rows(CLOSE, pids[0])
        transaction.connection.execute(
            "UPDATE record SET alive_at_ms = COALESCE(alive_at_ms, 0) + 1"
        )
        assert transaction.try_lock("reads, as what stores webhooks does")

    store.call(work)
    assert len(set(pids)) == 2
    assert store.rows("SELECT alive_at_ms FROM record") == [(1,)]
    assert lines == []


@contextmanager
def answer_lost(wire: Wire) -> Iterator[None]:
    """Meanwhile a COMMIT is done, and its answer does not come."""
    wire.loses_answer_to = b"COMMIT"
    with pytest.raises(StoreUnavailableError):
        yield
    wire.loses_answer_to = None


def test_when_the_answer_to_a_commit_is_lost_nothing_is_promised_and_it_is_there_once(
    far: Store, wire: Wire
) -> None:
    """An event that Prembly sends again, a claim that is released at no cost, and a result, which
    is no lost lease."""
    far.add()
    with answer_lost(wire):
        far.add("crm", body=b"second")
    assert not far.add("crm", body=b"second").is_new
    with answer_lost(wire):
        claim(far, crm=1)
    assert far.rows("SELECT state FROM delivery") == [("running",)]
    far.wait(far.queue.release_unstarted([], NOW_MS))
    [job] = claim(far, crm=1).jobs
    assert (job.attempt, job.attempts_left) == (2, 2)
    with answer_lost(wire):
        finish(far, job, SUCCEEDED)
    assert finish(far, job, SUCCEEDED), "it is this attempt's own result"
    assert far.rows("SELECT outcome FROM attempt ORDER BY id")[1:] == [("succeeded",)]
    assert not finish(far, job, SUCCEEDED, now_ms=NOW_MS + 1)


# Rows that somebody else has locked


@contextmanager
def deliveries_locked(server: Server) -> Iterator[None]:
    with psycopg.connect(server.url) as connection:
        connection.execute("SELECT FROM delivery FOR UPDATE")
        yield


def test_a_failed_claim_of_a_locked_delivery_is_released_later(
    store: Store, server: Server
) -> None:
    """Else it waits for the end of its lease, and no hook is at work."""
    store.add("crm")
    claim(store, crm=1)
    with deliveries_locked(server), pytest.raises(StoreUnavailableError):
        store.wait(store.queue.release_unstarted([], NOW_MS))
    assert store.wait(store.queue.release_unstarted([], NOW_MS))
    assert store.rows("SELECT state FROM delivery") == [("pending",)]


def test_a_host_that_comes_back_knows_its_claims_of_locked_deliveries(
    store: Store, server: Server
) -> None:
    """Else it ends hooks that are its own."""
    host = SharedHosts(
        store.writer, replace(Identity.of_this_process("host"), worker="host:1:boot")
    )
    store.wait(host.join(NOW_MS))
    store.add("crm")
    [job] = claim(store, crm=1).jobs
    with deliveries_locked(server):
        assert store.wait(host.revive(NOW_MS)) == {job.claim_token}


# Servers that say nothing


def test_a_network_that_is_cut_holds_nobody_for_long(far: Store, wire: Wire) -> None:
    far.add("crm", body=b"before")
    wire.is_cut = True
    with impatient(far):
        assert reason(far) == "PostgreSQL does not answer"
    wire.is_cut = False
    wire.break_all()
    assert far.add("crm", body=b"after").is_new
    assert far.bodies() == [b"before", b"after"]


# Settings


def test_a_commit_is_on_the_disk_whatever_the_server_is_set_to(store: Store) -> None:
    [(of_server,)] = store.rows("SHOW synchronous_commit")
    assert (of_server, setting(store, "synchronous_commit")) == ("off", "on")


@pytest.mark.parametrize(
    ("name", "of_operator", "of_daemon"),
    [
        ("default_transaction_isolation", "serializable", "read committed"),
        ("client_min_messages", "error", "warning"),  # or who cancels a COMMIT would not be heard
        ("statement_timeout", "1h", "0"),
        *(("synchronous_commit", own, own) for own in "local remote_write on remote_apply".split()),
    ],
)
def test_a_database_is_set_up_as_its_operator_likes_unless_a_promise_breaks(
    store: Store, name: str, of_operator: str, of_daemon: str
) -> None:
    database = store.rows("SELECT current_database()")[0][0]
    store.by_hand(f"ALTER DATABASE {database} SET {name} = '{of_operator}'")
    store.rows(CLOSE, backend_pid(store))
    assert setting(store, name) == of_daemon


def test_a_session_that_lost_its_client_lets_go_of_its_locks(store: Store) -> None:
    assert setting(store, "idle_in_transaction_session_timeout") == "4s"
    assert setting(store, "client_connection_check_interval") == "2s"


def test_a_health_check_writes_to_the_disk(store: Store) -> None:
    """The server's log, as far as is flushed: it flushes nothing for what has changed nothing."""
    for _ in range(3):
        [(before,)] = store.rows("SELECT pg_current_wal_insert_lsn()::text")
        store.wait(store.inbox.prove_commit())
        assert store.rows("SELECT pg_current_wal_flush_lsn() > ?::pg_lsn", before) == [(True,)]


# Each daemon counts in rows of its own, so that none waits for another's transaction.

WAITS_FOR_LOCK = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'"""


def test_a_daemon_that_is_slow_to_commit_keeps_no_other_from_counting(store: Store) -> None:
    other = store.beside("a")

    def add(transaction: Transaction) -> None:
        add_event(transaction, new_event(b"slow"), [])

    with transaction_open(store, add):
        assert other.add(body=b"quick").is_new
    assert store.rows("SELECT events FROM event_hour") == [(1,), (1,)]
    other.close()


def test_a_webhook_that_another_host_stores_at_this_moment_is_its_duplicate(store: Store) -> None:
    other = store.beside("a")

    def add(transaction: Transaction) -> None:
        add_event(transaction, new_event(b"twice"), [NewDelivery("crm", 1)])

    with transaction_open(other, add):
        twice = store.inbox.add(new_event(b"twice"), [NewDelivery("crm", 1)])
        store.wait(until(lambda: store.rows(WAITS_FOR_LOCK) == [(1,)]))
    assert not store.wait(twice).is_new
    assert store.rows("SELECT duplicate_count FROM event") == [(1,)]
    assert store.rows("SELECT count(*) FROM delivery") == [(1,)]
    other.close()


# What people are told of a connection that failed: never the words that the driver has for
# itself.

LOST = "PostgreSQL can't be reached: the connection was lost"


def test_what_the_driver_cannot_do_with_a_connection_is_that_it_was_lost(server: Server) -> None:
    with psycopg.connect(url_of(server)) as connection:
        connection.pgconn.enter_pipeline_mode()
        connection.pgconn.send_query_params(b"SELECT 1", [])
        with pytest.raises(psycopg.OperationalError, match="cannot exit pipeline mode") as caught:
            connection.pgconn.exit_pipeline_mode()
        connection.close()
    assert plain(caught.value) == LOST


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", LOST),
        ("consuming input failed: server closed the connection unexpectedly\n\tThis", LOST),
        ("sending query failed: another command is already in progress", LOST),
        (
            'connection is bad: connection to server on socket "/x" failed: No such file\n\tIs it',
            "PostgreSQL can't be reached: connection is bad: connection to server on socket"
            ' "/x" failed: No such file Is it',
        ),
    ],
)
def test_only_what_the_driver_says_of_a_connection_that_it_could_not_make_is_quoted(
    said: str, told: str
) -> None:
    assert plain(psycopg.OperationalError(said)) == told


# A process that is frozen (SIGSTOP) while its machine goes on: what it has locked, others get.

ROOT = Path(__file__).parents[3]
ALONE = "SELECT pg_advisory_xact_lock(730994082)"  # each that writes has it, shared


@pytest.mark.parametrize("ending", ["commits", "fails"])
@pytest.mark.parametrize("form", ["fastest", "python"])
def test_a_process_that_is_frozen_at_any_step_of_a_transaction_keeps_no_lock(
    server: Server, form: str, ending: str
) -> None:
    """psycopg has more than one form; in that of pure Python each call of libpq is a step."""
    environ = os.environ | ({"PSYCOPG_IMPL": form} if form == "python" else {})
    command = [sys.executable, "-m", "tests.support.freezing", server.url, ending]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, env=environ, cwd=ROOT
    ) as frozen:
        assert frozen.stdout is not None
        assert int(frozen.stdout.readline()) >= 10
        with psycopg.connect(server.url) as connection:
            connection.execute("SET lock_timeout = '30s'")
            connection.execute(ALONE)
    assert frozen.returncode == 0
