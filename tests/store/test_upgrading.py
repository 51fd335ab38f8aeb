"""A database of an earlier version with events, brought up to this program."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from premblyd.databases import DatabaseAddress
from premblyd.engines.connections import backend
from premblyd.errors import SchemaError
from premblyd.model import history
from tests.support.database import changing, is_on_postgresql, new_place, rows
from tests.support.queue import claim, ids
from tests.support.store import Store

OF_0_1_0 = "0001_initial"  # which had SQLite alone
OF_FIRST_0_2_0 = "0005_hosts"
OLD = """INSERT INTO event (key, endpoint, received_at_ms, remote_ip, headers, body_bytes,
    body_sha256, verified_by, kind, outcome, reference, body)
    VALUES ('k', 'prembly', 7, '192.0.2.7', '[]', 2, 's', 'hmac-sha256:live', 'api', 'verified',
    'ref-old', ?)"""
DELIVERY = """INSERT INTO delivery (event_id, action, state, due_at_ms, attempts_left,
    created_at_ms) VALUES (1, 'crm', 'pending', 5, 3, 4)"""
ATTEMPT = """INSERT INTO attempt (delivery_id, number, worker, action_digest, started_at_ms,
    {}) VALUES (2, {}, 'w', 'd', 6, {})"""
# What somebody wrote by hand.
HALF_DONE = (
    "UPDATE delivery SET finished_at_ms = 7 WHERE id = 1",
    "UPDATE delivery SET state = 'dead', due_at_ms = NULL WHERE id = 2",
    "UPDATE delivery SET attempts_left = -3 WHERE id = 3",
    ATTEMPT.format("outcome", 1, "'failed'"),
    ATTEMPT.format("finished_at_ms", 2, "8"),
)
VIEW = """CREATE VIEW host_log AS SELECT id, worker, name, pid, version,
    CAST(NULL AS text) AS started_at, CAST(NULL AS text) AS seen_at, CAST(NULL AS text) AS ended_at,
    ended FROM host"""
COLUMNS = "id, key, received_at_ms, outcome, reference, body"
SHAPE = """SELECT name, sql FROM sqlite_schema
    WHERE type IN ('index', 'view', 'trigger') ORDER BY name"""
SHAPE_ON_A_SERVER = """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'
UNION SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1
"""


@pytest.fixture(name="older")
def make_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], DatabaseAddress]:
    """What makes a database that has the migrations up to one."""

    def older(last: str) -> DatabaseAddress:
        scripts = tmp_path / "migrations"
        shutil.copytree(history.MIGRATIONS, scripts)
        for script in scripts.glob("0*.py"):
            if script.stem > last:
                script.unlink()
        place = new_place(tmp_path, template="template1")
        with monkeypatch.context() as patched:
            patched.setattr(history, "MIGRATIONS", scripts)
            backend(place).prepare()
        return place

    return older


@pytest.mark.parametrize("has_events", [False, True])
@pytest.mark.parametrize("last", [pytest.param(OF_0_1_0, marks=pytest.mark.sqlite), OF_FIRST_0_2_0])
def test_old_events_stay_and_new_ones_have_a_doubt(
    older: Callable[[str], DatabaseAddress], tmp_path: Path, last: str, *, has_events: bool
) -> None:
    place = older(last)
    if has_events:
        with changing(place) as database:
            database.execute(OLD, [b"{}"])
    before = rows(place, f"SELECT {COLUMNS} FROM event")
    lacking = [name for name in history.known() if name > last]
    assert backend(place).prepare() == lacking
    assert rows(place, f"SELECT {COLUMNS} FROM event") == before
    (tmp_path / "new").mkdir()
    new = new_place(tmp_path / "new")
    shape = SHAPE_ON_A_SERVER if is_on_postgresql() else SHAPE
    assert rows(place, shape) == rows(new, shape)
    with asyncio.Runner() as runner:
        store = Store(place, runner.get_loop())
        store.add("crm", reference="ref-new", doubt="face")
        store.close()
    old = [("ref-old", None)] if has_events else []
    for table in ("event", "event_log"):
        found = rows(place, f"SELECT reference, doubt FROM {table} ORDER BY id")
        assert found == [*old, ("ref-new", "face")]


def test_a_view_is_replaced_and_who_may_read_it_still_may(
    older: Callable[[str], DatabaseAddress],
) -> None:
    place = older(OF_FIRST_0_2_0)
    with changing(place) as database:
        database.execute(VIEW)
        if is_on_postgresql():
            database.execute("GRANT SELECT ON host_log TO PUBLIC")
    backend(place).prepare()
    assert rows(place, "SELECT lost_after_ms FROM host_log") == []
    if is_on_postgresql():
        rights = "SELECT has_table_privilege('pg_monitor', 'host_log', 'SELECT')"
        assert rows(place, rights) == [(True,)]


def test_what_was_written_by_half_before_is_mended_or_ends_dead_in_words(
    older: Callable[[str], DatabaseAddress],
) -> None:
    place = older(OF_FIRST_0_2_0)
    with changing(place) as database:
        database.execute(OLD, [b"{}"])
        for text in (DELIVERY, DELIVERY, DELIVERY, *HALF_DONE):
            database.execute(text)
    backend(place).prepare()
    ended = rows(place, "SELECT outcome, finished_at_ms FROM attempt ORDER BY id")
    assert ended == [("failed", 6), ("interrupted", 8)]
    with asyncio.Runner() as runner:
        store = Store(place, runner.get_loop())
        assert ids(claim(store, crm=9)) == [1]
        store.close()
    found = rows(place, "SELECT state, finished_at_ms, last_error FROM delivery ORDER BY id")
    assert found[:2] == [("running", None, None), ("dead", 8, None)]
    assert found[2][0] == "dead"
    assert "attempts_left is no number that it can be" in found[2][2]


def test_what_a_version_that_was_never_released_has_begun_is_refused(
    older: Callable[[str], DatabaseAddress],
) -> None:
    place = older(OF_FIRST_0_2_0)
    with changing(place) as database:
        database.execute(
            "INSERT INTO schema_migration (name, applied) VALUES ('0006_doubt', '2026-11-27')"
        )
    with pytest.raises(SchemaError, match=r"newer premblyd \(it knows 0006_doubt"):
        backend(place).prepare()
