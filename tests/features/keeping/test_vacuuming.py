"""Which bytes of who was erased remain in the database's file and log, and what says so."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.keeping import erasing, shown, vacuuming
from premblyd.features.keeping.erasing import Request
from premblyd.features.keeping.persons import Named
from premblyd.ground.errors import StoreUnavailableError
from premblyd.record.told import Situation
from premblyd.store.connections import connect_operator
from premblyd.store.engine import Database
from premblyd.store.sqlite import engine
from premblyd.store.sqlite.files import lock
from tests.support.commands import Ran, recorded_in, run, run_process
from tests.support.database import by_hand, rows
from tests.support.store import NOW_MS, Store, store_at

MARKS = ("user-mark", "body-mark", "reference-mark", "session-mark")
UNVACUUMED = "SELECT count(*), min(at_ms) FROM erasure WHERE vacuumed_at_ms IS NULL"
OTHERS = "SELECT count(*) FROM event WHERE user_ref = 'other'"
RATE = "SELECT vacuum_rate FROM record"
REMAINS = "`premblyd record vacuum` deletes them"
InFile = tuple[Store, Database]


@pytest.fixture
def beside(store: Store) -> Iterator[Database]:
    """What `person erase` works by, beside a daemon's writer."""
    with closing(connect_operator(store.place)) as database:
        yield database


@pytest.fixture
def in_file(path: Path) -> Iterator[InFile]:
    """The same on SQLite alone."""
    with store_at(path) as store, closing(connect_operator(path)) as database:
        yield store, database


def erase(store: Store, database: Database) -> None:
    """Erase a person whose 20 events stand among those of others."""
    for number in range(20):
        own: Any = {"reference": f"reference-mark-{number}", "session_id": f"session-mark-{number}"}
        store.add("crm", body=b"%d body-mark" % number * 300, user_ref="user-mark", **own)
        store.add("crm", body=b"%d" % number * 3000, user_ref="other", reference=f"r-{number}")
    erasing.erase(database, Request(named=Named.user("user-mark"), actor="dpo"))


def found(path: Path) -> set[tuple[str, str]]:
    """Return which marks are in which of the database's files."""
    contents = {each.suffix: each.read_bytes() for each in path.parent.glob(f"{path.name}*")}
    return {(name, mark) for mark in MARKS for name in contents if mark.encode() in contents[name]}


def said(database: Database) -> str:
    [erasures] = shown._of_kept(Situation(record=database, now_ms=NOW_MS))
    return erasures


def test_nothing_of_it_remains_and_nothing_else_is_lost(store: Store, beside: Database) -> None:
    """When it is done."""
    erase(store, beside)
    store.by_hand("INSERT INTO to_erase (event_id, erasure_id) SELECT 99, id FROM erasure")
    assert vacuuming.beside_daemons(store.place, beside)
    assert REMAINS in said(beside)
    store.by_hand("DELETE FROM to_erase")
    assert vacuuming.beside_daemons(store.place, beside)
    assert said(beside) == "Erasures: 1."
    assert store.rows(RATE) > [(0,)]
    store.add("crm", body=b"later", user_ref="other")
    assert store.rows(OTHERS) == [(21,)]


def test_no_byte_of_the_person_is_in_file_or_log(
    in_file: InFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, deleted values are overwritten in the file, though not in the log."""
    store, database = in_file
    writers = store.on_connection(lambda each: each.execute("PRAGMA secure_delete").fetchone())
    assert writers == database.execute_sql("PRAGMA secure_delete").fetchone() == (1,)
    erase(store, database)
    database.execute_sql("PRAGMA wal_checkpoint(passive)").fetchall()
    assert {(".db-wal", mark) for mark in MARKS} == found(store.path)
    store.by_hand("UPDATE record SET vacuum_rate = 1 WHERE id = 1")  # it would take long
    monkeypatch.setattr(vacuuming, "LIMIT_S", 1.0)
    assert not vacuuming.beside_daemons(store.path, database)
    assert (store.rows(RATE), REMAINS in said(database)) == ([(1,)], True)
    vacuuming.vacuum(store.path, database)
    assert (found(store.path), said(database)) == (set(), "Erasures: 1.")
    assert store.rows("PRAGMA integrity_check") == [("ok",)]


def test_while_somebody_reads_it_it_stays(in_file: InFile, monkeypatch: pytest.MonkeyPatch) -> None:
    store, database = in_file
    monkeypatch.setattr("premblyd.features.keeping.vacuuming.LOG_WAIT_MS", 1)
    erase(store, database)
    with closing(connect_operator(store.path)) as reader:
        reader.execute_sql("BEGIN")
        reader.execute_sql(OTHERS).fetchall()
        assert not vacuuming.beside_daemons(store.path, database)
        assert REMAINS in said(database)
        store.add("crm", body=b"meanwhile")
    assert vacuuming.beside_daemons(store.path, database)
    assert said(database) == "Erasures: 1."


def test_one_that_takes_too_long_is_given_up_and_changes_nothing(
    in_file: InFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, database = in_file
    erase(store, database)
    at_work, is_stopped = threading.Event(), threading.Event()
    stop = database.interrupter()

    def interrupt() -> None:
        at_work.wait()
        stop()
        is_stopped.set()

    def go_on() -> int:
        at_work.set()
        is_stopped.wait()
        return 0

    monkeypatch.setattr(database, "interrupter", lambda: interrupt)
    database.connection().set_progress_handler(go_on, 100)  # no pragma takes so many steps
    with pytest.raises(StoreUnavailableError, match="interrupted"):
        vacuuming.write_anew(store.path, database, 0.001)
    assert store.rows("PRAGMA integrity_check") == [("ok",)]
    assert store.rows(OTHERS) == [(20,)]


# --- The commands -------------------------------------------------------------------------


def erase_event(config: Path, number: int, *more: str) -> Ran:
    return run("person", "erase", "--event", number, "--yes", *more, "--config", config)


@pytest.mark.sqlite
def test_what_remains_is_said_until_it_goes(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = erase_event(config, 1, "--json")
    assert (done.code, done.err, json.loads(done.out)["bytes_may_remain"]) == (0, "", False)
    monkeypatch.setattr(vacuuming, "LIMIT_S", 0.0)
    assert f"Bytes of it may remain in the database's file: {REMAINS}" in erase_event(config, 2).err
    assert REMAINS in " ".join(run("status", "--config", config).out.split())
    kept = json.loads(run("status", "--json", "--config", config).out)["kept"]
    assert rows(recorded_in(config), UNVACUUMED) == [(1, kept["bytes_remain_since_ms"])]
    vacuumed = run("record", "vacuum", "--config", config)
    assert (vacuumed.code, vacuumed.out.partition(":")[0]) == (0, "Done")
    assert REMAINS not in " ".join(run("status", "--config", config).out.split())


@pytest.mark.sqlite
def test_the_command_gives_space_back_and_has_sqlites_lock_on_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who closes it last takes the log away that VACUUM writes to."""
    held, vacuum = [], vacuuming.vacuum

    def looking(*each: Any) -> None:
        number = config.with_name("premblyd.db").stat().st_ino
        held.append(f":{number} " in Path("/proc/locks").read_text())
        vacuum(*each)

    for sql in ("CREATE TABLE large AS SELECT zeroblob(3000000)", "DROP TABLE large"):
        by_hand(recorded_in(config), sql)
    monkeypatch.setattr(vacuuming, "vacuum", looking)
    told = json.loads(run("record", "vacuum", "--json", "--config", config).out)
    assert told["freed_bytes"] > 2_900_000 > told["database_bytes"] > 0
    assert held == [True]


@pytest.mark.process
@pytest.mark.sqlite
def test_it_begins_neither_beside_a_daemon_nor_on_a_disk_that_is_too_small(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptor = lock(Path(str(recorded_in(config))))
    refused = run_process("record", "vacuum", "--config", config)
    os.close(descriptor)
    assert (refused.code, refused.out) == (75, "")
    assert "Another premblyd uses" in refused.err
    monkeypatch.setattr(engine, "_free", lambda _: 1000)
    refused = run("record", "vacuum", "--config", config)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("Nothing was changed: this takes ")
    assert "only 1000 B are free" in refused.err
    assert rows(recorded_in(config), RATE) == [(None,)]
    assert REMAINS in erase_event(config, 1).err
