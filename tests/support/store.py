"""The store on a real file, and webhooks to put in."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest

from premblyd.feature import added
from premblyd.ground.databases import DatabaseAddress, file_of
from premblyd.ground.errors import StoreUnavailableError
from premblyd.prembly.payload import Kind, Outcome, Verdict, Webhook
from premblyd.queue.digests import Digests
from premblyd.queue.hooks import Bound, Hooks
from premblyd.queue.inbox import Added, Inbox, NewDelivery
from premblyd.queue.queue import Queue
from premblyd.queue.rejections import NewRejection
from premblyd.store.connections import backend
from premblyd.store.engine import Backend, Transaction
from premblyd.store.writer import Writer
from tests.support import postgresql
from tests.support.database import Looking, connect_file, server_of

T = TypeVar("T")
NOW_MS = 1_700_000_000_000  # 2023-11-14T22:13:20Z
VERDICT = Verdict(
    kind=Kind.SDK,
    type="sdk.session",
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


def new_event(body: bytes = b'{"hush": "body"}', **changes: Any) -> Webhook:
    """Return a webhook; `changes` name fields of Webhook or of its verdict."""
    verdict = asdict(VERDICT)
    verdict.update({name: changes.pop(name) for name in verdict if name in changes})
    fields: dict[str, Any] = {
        "endpoint": "prembly",
        "received_at_ms": NOW_MS,
        "remote_ip": "192.0.2.7",
        "headers": '[["User-Agent","Prembly"]]',
        "verified_by": "hmac-sha256:live",
        "token": "hush-token",
        **changes,
    }
    return Webhook(body=body, verdict=Verdict(**verdict), **fields)


def new_rejection(reason: str = "wrong signature", **changes: Any) -> NewRejection:
    """Return a request that was refused; `changes` name its other fields."""
    fields: dict[str, Any] = {"at_ms": NOW_MS, "endpoint": "prembly", "remote_ip": "192.0.2.7"}
    return NewRejection(
        reason=reason, **fields | {"body_bytes": None, "body_sha256": None} | changes
    )


def is_fault(result: object) -> bool:
    """Return whether an operation failed by its own fault, and not because of the database."""
    return isinstance(result, Exception) and not isinstance(result, StoreUnavailableError)


def on_connection(writer: Writer, work: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
    """Run `work` on SQLite's own connection, as one of the writer's operations."""

    def in_transaction(transaction: Transaction) -> T:
        return work(transaction.connection)

    return writer.call(in_transaction)


class Store:
    """A prepared database of one engine, and its writer on a loop that runs while the test waits.

    Another engine is another class with these methods: `tests/support/engines.py` lists them.
    """

    def __init__(
        self, place: DatabaseAddress, loop: asyncio.AbstractEventLoop, worker: str = "host:1:boot"
    ) -> None:
        self.place = place
        self.worker = worker
        self.backend: Backend = self._backend()
        self.engine = self.backend.engine()
        self._reading: psycopg.Connection[Any] | None = None
        self._looking = Looking(place)
        self._loop = loop
        self.writer = self.wait(self._open())
        self.inbox = Inbox(self.writer)
        self.queue = Queue(self.writer, worker)

    def beside(self, worker: str) -> "Store":
        """Return another store on the same database and loop, as another host has it."""
        return Store(self.place, self._loop, worker)

    def _backend(self) -> Backend:
        return backend(self.place)

    @property
    def digests(self) -> Digests:
        return Digests(self.engine.digest_key)

    @property
    def path(self) -> Path:
        """The file of a store that is in one."""
        path = file_of(self.place)
        assert path is not None
        return path

    async def _open(self) -> Writer:
        return Writer(self.engine)

    def wait(self, awaitable: Awaitable[T]) -> T:
        return self._loop.run_until_complete(asyncio.ensure_future(awaitable, loop=self._loop))

    def call(self, work: Callable[[Transaction], T], **how: Any) -> T:
        """Do this by the writer."""
        return self.wait(self.writer.call(work, **how))

    def wait_all(self, futures: Iterable["asyncio.Future[T]"]) -> list[T | BaseException]:
        """Return the results and the errors of what was submitted in one round of the loop."""
        return self.wait(asyncio.gather(*futures, return_exceptions=True))

    def add(self, *actions: str, attempts: int = 3, then: object = None, **changes: Any) -> Added:
        """Store a webhook with a delivery for each of `actions`, which have `order` with `then`."""
        deliveries = [NewDelivery(action, attempts, then) for action in actions]
        return self.wait(self.inbox.add(new_event(**changes), deliveries))

    def bind(self, *more: Hooks) -> "Store":
        """From now on have these hooks bound, and those that are bound however it is configured."""
        always = (each for each in added("hooks", "HOOKS") if isinstance(each, Hooks))
        self.writer.bound = Bound([*more, *always])
        return self

    def add_at_once(self, count: int) -> list[Added | BaseException]:
        """Store so many webhooks in one round of the loop, each with a delivery."""
        return self.wait_all(
            self.inbox.add(new_event(b"%d" % number), [NewDelivery("crm", 1)])
            for number in range(count)
        )

    def bodies(self) -> list[bytes]:
        """Return the bodies of the events, in their order."""
        return [body for (body,) in self.rows("SELECT body FROM event ORDER BY id")]

    def on_connection(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the writer's own connection, and commit."""
        return self.wait(on_connection(self.writer, work))

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        url = server_of(self.place)
        if url is None:
            return self._looking.rows(sql, *values)
        # To connect to a server takes longer than most that is asked there.
        if self._reading is None or self._reading.closed:
            self._reading = psycopg.connect(url, autocommit=True)
        return self._reading.execute(sql.replace("?", "%s"), values or None).fetchall()

    def by_hand(self, sql: str, *values: Any) -> None:
        """Change the database as somebody can from outside, who keeps no foreign keys."""
        if url := server_of(self.place):
            postgresql.by_hand(postgresql.address(url), sql, *values)
            return
        with closing(connect_file(self.place, isolation_level=None)) as shell:
            shell.execute(sql, values)

    def close(self) -> None:
        self._looking.close()
        self.wait(self.writer.close())
        if self._reading is not None:
            self._reading.close()


@contextlib.contextmanager
def store_at(place: DatabaseAddress) -> Iterator[Store]:
    """Have a store at work on a prepared database, on a loop of its own."""
    with asyncio.Runner() as runner:
        store = Store(place, runner.get_loop())
        yield store
        store.close()


@contextlib.contextmanager
def transaction_open(store: Store, work: Callable[[Transaction], object]) -> Iterator[None]:
    """Have a transaction of this store's open, in which `work` is done."""
    is_done, may_end = threading.Event(), threading.Event()

    def hold(transaction: Transaction) -> None:
        work(transaction)
        transaction.try_lock("is done")  # an answer to this is one to all that was sent before
        is_done.set()
        assert may_end.wait()

    async def begin() -> "asyncio.Future[None]":
        held = store.writer.call(hold)
        assert await asyncio.to_thread(is_done.wait)
        return held

    held = store.wait(begin())
    try:
        yield
    finally:
        may_end.set()
        store.wait(held)


def reason(store: Store, body: bytes = b"{}") -> str:
    """Return why a webhook can't be stored now, checking that the writer says the same."""
    with pytest.raises(StoreUnavailableError) as caught:
        store.add("crm", body=body)
    assert store.writer.last_error == caught.value.reason
    return caught.value.reason
