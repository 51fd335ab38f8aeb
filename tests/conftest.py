"""What several test modules need: a prepared database with a writer, and webhooks to put in."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Awaitable, Generator, Iterable, Iterator, MutableMapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from premblyd.prembly.payload import Kind, Outcome, Verdict
from premblyd.prembly.webhook import Webhook
from premblyd.store.inbox import Added, Inbox, NewDelivery
from premblyd.store.queue import Queue
from premblyd.store.sqlite import opening as database
from premblyd.store.sqlite.writer import Writer

T = TypeVar("T")
REQUIRE_ALL = os.environ.get("PREMBLYD_REQUIRE_ALL") == "1"
NOW_MS = 1_700_000_000_000  # 2023-11-14T22:13:20Z
VERDICT = Verdict(
    kind=Kind.SDK,
    response_code="00",
    status="true",
    detail="Verification successful",
    verification_status="VERIFIED",
    outcome=Outcome.VERIFIED,
    reference="ref-1",
    user_ref="user-1",
    session_id="hush-session",
    face_match=True,
    face_confidence=97.5,
)


def pytest_configure() -> None:
    """Have no loop: Tornado's would otherwise have asyncio make one that nobody closes."""
    asyncio.set_event_loop(None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skip a failure where everything is required: .ci/run brings every system part."""
    report = yield
    if REQUIRE_ALL and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped although all is required: {report.longrepr}"
    return report


def rows(path: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return what another connection sees of the database at `path`."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, values).fetchall()


def new_event(body: bytes = b'{"hush": "body"}', **changes: Any) -> Webhook:
    """Return a webhook; `changes` name fields of Webhook or of its verdict."""
    verdict = asdict(VERDICT)
    verdict.update({name: changes.pop(name) for name in verdict if name in changes})
    given: dict[str, Any] = {
        "endpoint": "prembly",
        "received_at_ms": NOW_MS,
        "remote_ip": "192.0.2.7",
        "token": "hush-token",
        "headers": '[["User-Agent","Prembly"]]',
        "verified_by": "hmac-sha256:live",
        **changes,
    }
    return Webhook(body=body, verdict=Verdict(**verdict), **given)


class Store:
    """A prepared database, and its writer on a loop that runs while the test waits."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.path = path
        self._loop = loop
        self.writer = self.wait(self._open())
        self.inbox = Inbox(self.writer)
        self.queue = Queue(self.writer, "host:1:boot")

    async def _open(self) -> Writer:
        return Writer(self.path)

    def wait(self, awaitable: Awaitable[T]) -> T:
        return self._loop.run_until_complete(asyncio.ensure_future(awaitable, loop=self._loop))

    def wait_all(self, futures: Iterable["asyncio.Future[T]"]) -> list[T | BaseException]:
        """Return the results and the errors of what was submitted in one round of the loop."""
        return self.wait(asyncio.gather(*futures, return_exceptions=True))

    def add(self, *actions: str, attempts: int = 3, **changes: Any) -> Added:
        """Store a webhook with a delivery for each of `actions`."""
        deliveries = [NewDelivery(action, attempts) for action in actions]
        return self.wait(self.inbox.add(new_event(**changes), deliveries))

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return rows(self.path, sql, *values)

    def close(self) -> None:
        self.wait(self.writer.close())


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared database, to be copied: that takes less time than to make one."""
    path = tmp_path_factory.mktemp("prepared") / "premblyd.db"
    database.prepare(path)
    return path


@pytest.fixture
def path(tmp_path: Path, prepared: Path) -> Path:
    """A prepared database that nobody has open."""
    return Path(shutil.copy(prepared, tmp_path))


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with asyncio.Runner() as runner:
        store = Store(path, runner.get_loop())
        yield store
        store.close()


@pytest.fixture
def lines() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged, instead of printing it."""
    with capture_logs() as lines:
        yield lines
