"""Commands on a machine whose clock is wrong: on PostgreSQL the server's decides."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from premblyd.cli.check import reminders
from premblyd.config.load import load_config
from tests.support import postgresql
from tests.support.commands import run
from tests.support.configuration import configuration, shell
from tests.support.database import url_of
from tests.support.needs import needs_machine
from tests.support.prembly_api import prembly_api
from tests.support.store import Store

pytestmark = pytest.mark.postgresql

DAY_NS = 86_400 * 10**9
NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A record on a server, with an event of this moment. This machine is 100 days ahead."""
    with asyncio.Runner() as runner:
        with needs_machine():
            store = Store(postgresql.new_database(*postgresql.of_session()), runner.get_loop())
        store.add("crm", body=b'{"response_code": "00"}')
        store.by_hand(f"UPDATE event SET received_at_ms = {NOW}")
        store.by_hand(f"UPDATE delivery SET created_at_ms = {NOW}")
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + 100 * DAY_NS)
        yield store
        store.close()


def test_an_age_counts_from_the_servers_time(store: Store) -> None:
    for command, age, count in (
        ("events", "--since", 1),
        ("deliveries", "--since", 1),
        ("events", "--until", 0),
    ):
        done = run(command, age, "1h", "--json", "--database", url_of(store.place))
        assert len(json.loads(done.out)) == count


def configured(store: Store, folder: Path, **prembly: object) -> Path:
    path = folder / "premblyd.yaml"
    own = {"database": url_of(store.place), "prembly": {"rate": 1000, **prembly}}
    path.write_text(json.dumps(configuration(**own, actions=[shell("crm", "true", "00")])))
    return path


def test_what_reconcile_stores_runs_now_by_the_servers_time(store: Store, tmp_path: Path) -> None:
    with prembly_api() as api:
        lost = api.know("ver_bvn_0000fa", created_at_s=time.time() - 60).reference
        config = configured(store, tmp_path, url=api.url, api_key=api.key)
        done = run("reconcile", "-", "--store", "--config", config, stdin=f"{lost}\n".encode())
    assert (done.code, done.err) == (0, "")
    for column in (
        "due_at_ms FROM delivery WHERE event_id > 1",
        "received_at_ms FROM event WHERE id > 1",
        "at_ms FROM inquiry",
    ):
        ((ahead_ms,),) = store.rows(f"SELECT -{NOW} + {column}")
        assert -3_600_000 < ahead_ms <= 0, column


def test_a_reminder_of_yesterday_is_not_forgotten(store: Store, tmp_path: Path) -> None:
    store.by_hand(
        f"INSERT INTO downtime (from_ms, until_ms) SELECT {NOW} - 90000000, {NOW} - 80000000"
    )
    settings = load_config(configured(store, tmp_path, api_key="hush"), look_up_secrets=True)
    assert [each.partition(" ")[0] for each in reminders(settings)] == ["From"]
