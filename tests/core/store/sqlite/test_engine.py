"""SQLite as the writer's engine: what it commits, what it refuses, and the log beside its file."""

import resource
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.ground.errors import StoreUnavailableError, ValueRefusedError
from premblyd.queue.hooks import Bound
from premblyd.store.sqlite import opening
from premblyd.store.sqlite.engine import CHECKPOINT_AFTER, FILE_REPLACED
from tests.support.database import locked, rows
from tests.support.logs import Lines
from tests.support.store import Store, new_event, on_connection, reason, store_at


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_S", 0.02)


def bodies(path: Path) -> list[bytes]:
    return [body for (body,) in rows(path, "SELECT body FROM event ORDER BY id")]


@pytest.mark.parametrize("bound", [None, Bound([])], ids=["", "without any feature"])
def test_a_health_check_writes_to_the_disk(store: Store, bound: Bound | None) -> None:
    store.writer.bound = bound
    log = store.path.with_name(f"{store.path.name}-wal")
    store.add()
    before = log.stat().st_size
    store.wait(store.inbox.prove_commit())
    full = log.stat().st_size
    assert full > before
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, limits[1]))
    try:
        with pytest.raises(StoreUnavailableError):
            store.wait(store.inbox.prove_commit())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    store.wait(store.inbox.prove_commit())


@pytest.mark.parametrize(
    ("faulty", "error"),
    [
        # It is still pending.
        (lambda own: own.execute("UPDATE delivery SET due_at_ms = NULL"), ValueRefusedError),
        (
            lambda own: own.execute("UPDATE record SET alive_at_ms = ?", (1, 2)),
            sqlite3.ProgrammingError,
        ),
        (lambda own: {"own": own}["fault"], KeyError),
    ],
)
def test_a_faulty_operation_fails_alone(
    store: Store, lines: Lines, faulty: Callable[[sqlite3.Connection], Any], error: type[Exception]
) -> None:
    store.add("crm")
    before = [store.inbox.add(new_event(b"%d" % number), []) for number in range(3)]
    begun = "UPDATE record SET alive_at_ms = 1"
    failing = on_connection(store.writer, lambda own: (own.execute(begun), faulty(own)))
    after = [store.inbox.add(new_event(b"%d" % number), []) for number in range(3, 6)]
    with pytest.raises(error):
        store.wait(failing)
    assert [one.event_id for one in (*map(store.wait, before), *map(store.wait, after))] == [
        *range(2, 8)
    ]
    assert store.rows("SELECT alive_at_ms FROM record") == [(None,)]
    assert store.writer.last_error is None
    assert [line["event"] for line in lines] == ["store.operation_failed"]


@pytest.mark.usefixtures("impatient")
def test_a_locked_database_fails_everything_that_waits_and_recovers(
    store: Store, lines: Lines
) -> None:
    store.add("crm", body=b"before")
    with locked(store.path):
        results = store.add_at_once(30)
        assert {type(one) for one in results} == {StoreUnavailableError}
        assert reason(store) == "database is locked"
        assert store.bodies() == [b"before"]
    assert store.add("crm", body=b"after").event_id == 2
    assert store.writer.last_error is None
    assert store.bodies() == [b"before", b"after"]
    assert [line["event"] for line in lines] == ["store.unavailable", "store.recovered"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("outage", [False, True])
def test_every_connection_of_the_writer_commits_to_the_disk(store: Store, outage: bool) -> None:
    first = store.on_connection(lambda connection: connection)
    if outage:
        with locked(store.path):
            reason(store)
    assert (store.on_connection(lambda connection: connection) is first) is not outage
    for name, value in {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1}.items():
        asked = f"PRAGMA {name}"
        assert store.on_connection(lambda own: own.execute(asked).fetchone()) == (value,)  # noqa: B023


def test_a_removed_file_is_an_error_and_never_a_new_empty_one(store: Store) -> None:
    store.add("crm", body=b"before")
    away = store.path.rename(store.path.with_suffix(".away"))
    for _ in range(2):
        assert reason(store) == FILE_REPLACED
        assert not store.path.exists()
    away.rename(store.path)
    with pytest.raises(StoreUnavailableError, match="removed or replaced"):
        store.call(lambda _: store.path.rename(away))
    away.rename(store.path)
    assert store.add("crm", body=b"after").event_id == 2
    assert store.bodies() == [b"before", b"after"]


@pytest.mark.usefixtures("impatient")
def test_a_replaced_file_is_an_error_and_stays_as_it_is(store: Store) -> None:
    """Also when the connection was closed meanwhile, and the first file comes back."""
    store.add("crm", body=b"before")
    other = store.path.with_name("other.db")
    opening.prepare(other)
    away = store.path.with_name("away.db")
    with locked(store.path):
        reason(store)  # closes the connection
    store.path.rename(away)
    other.rename(store.path)
    assert [reason(store), reason(store)] == [FILE_REPLACED] * 2
    store.path.rename(other)
    away.rename(store.path)
    store.add("crm", body=b"after")
    assert store.bodies() == [b"before", b"after"]
    assert bodies(other) == []


def test_the_log_is_moved_into_the_file_when_its_webhooks_are_answered(store: Store) -> None:
    moving, answered = threading.Event(), threading.Event()

    def trace(text: str) -> None:
        if "wal_checkpoint" in text:
            moving.set()
            assert answered.wait()

    store.on_connection(lambda connection: connection.set_trace_callback(trace))
    for number in range(CHECKPOINT_AFTER - 1):
        store.add(body=b"%d" % number)  # the last one too, although the log can't be moved yet
    assert moving.wait()
    assert unmoved(store.path) == CHECKPOINT_AFTER - 1
    answered.set()
    store.add(body=b"waits for that")
    assert unmoved(store.path) == 1


def unmoved(path: Path) -> int:
    """Return how many events only the write-ahead log has: immutable=1 reads without it."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as file:
        ((moved,),) = file.execute("SELECT count(*) FROM event").fetchall()
    return len(bodies(path)) - int(moved)


def test_closing_leaves_no_log(path: Path) -> None:
    with store_at(path) as store:
        store.add_at_once(CHECKPOINT_AFTER + 1)
    assert not path.with_name(path.name + "-wal").exists()
    assert len(bodies(path)) == CHECKPOINT_AFTER + 1
