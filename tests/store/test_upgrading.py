"""A database of 0.2.0 with events, brought up to this program."""

import asyncio
import shutil
from pathlib import Path

import pytest

from premblyd.engines.connections import backend
from premblyd.model import history
from tests.support.database import changing, new_place, rows
from tests.support.store import Store

LAST_OF_0_2_0 = "0005_hosts"
OLD = """INSERT INTO event (key, endpoint, received_at_ms, remote_ip, headers, body_bytes,
    body_sha256, verified_by, kind, outcome, reference, type, body)
    VALUES ('k', 'prembly', 7, '192.0.2.7', '[]', 2, 's', 'hmac-sha256:live', 'api', 'verified',
    'ref-old', 'verification.direct', ?)"""
COLUMNS = "id, key, received_at_ms, outcome, reference, type, body"


@pytest.mark.parametrize("has_events", [False, True])
def test_old_events_stay_and_new_ones_have_a_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_events: bool
) -> None:
    older = tmp_path / "migrations"
    shutil.copytree(history.MIGRATIONS, older)
    for script in older.glob("0*.py"):
        if script.stem > LAST_OF_0_2_0:
            script.unlink()
    place = new_place(tmp_path, template="template1")
    with monkeypatch.context() as patched:
        patched.setattr(history, "MIGRATIONS", older)
        backend(place).prepare()
    if has_events:
        with changing(place) as database:
            database.execute(OLD, [b"{}"])
    before = rows(place, f"SELECT {COLUMNS} FROM event")
    backend(place).prepare()
    assert rows(place, f"SELECT {COLUMNS} FROM event") == before
    with asyncio.Runner() as runner:
        store = Store(place, runner.get_loop())
        store.add("crm", reference="ref-new", doubt="face")
        store.close()
    old = [("ref-old", None)] if has_events else []
    for table in ("event", "event_log"):
        found = rows(place, f"SELECT reference, doubt FROM {table} ORDER BY id")
        assert found == [*old, ("ref-new", "face")]
