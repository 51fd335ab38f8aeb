"""A CSV is whole, or it is seen that it is not."""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, IncompleteRead
from typing import Any, cast

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from premblyd.features.console import lists
from premblyd.features.console.handler import Handler
from premblyd.ground import words
from premblyd.ground.errors import StoreUnreadableError
from premblyd.record.queries import Row
from premblyd.store.engine import Database
from premblyd.store.readers import PageReader, Readers, TooBusyError
from tests.support.console import Browser, opened
from tests.support.daemon import Premblyd
from tests.support.database import changing
from tests.support.rows import for_each

MANY = 1234  # events: more than a part
EVENT = """INSERT INTO event (key, endpoint, received_at_ms, remote_ip, headers, body_bytes,
    body_digest, verified_by, kind, outcome, type, doubt, detail, body) VALUES
    (?, 'prembly', ?, '192.0.2.7', '[]', 2, '', 'hmac-sha256:live', 'api', 'unknown',
    'unknown', '', ?, ?)"""
REJECTED = """INSERT INTO rejection (at_ms, endpoint, remote_ip, reason)
    VALUES (?, 'prembly', '192.0.2.9', 'wrong signature')"""


def rows_of(own: Browser, path: str) -> list[dict[str, str]]:
    page = own.get(path)
    assert page.status == 200, page.text
    return list(csv.DictReader(io.StringIO(page.body.decode("utf-8-sig"))))


@pytest.mark.process
def test_a_csv_has_every_row_that_the_filter_has(fresh: Premblyd) -> None:
    """A daemon of its own, for its many events."""
    own = opened(fresh)
    with changing(fresh.place) as database:
        for number in range(1, MANY + 1):
            detail = "rare" if number == 7 else "Record not found"
            database.execute(EVENT, (f"{number:032x}", number, detail, b"{}"))
            database.execute(REJECTED, (number,))
    assert [int(row["id"]) for row in rows_of(own, "/events.csv")] == [*range(MANY, 0, -1)]
    assert [row["id"] for row in rows_of(own, "/events.csv?text=rare")] == ["7"]
    assert rows_of(own, "/events.csv?text=nobody+wrote+this") == []
    assert len(rows_of(own, "/rejections.csv")) == MANY


@pytest.mark.process
@for_each(
    ("path", "words"),
    [
        ("/events.csv?outcom=verified", "There is no filter outcom here"),
        ("/events?since=yesterday&outcome=fine", "should be one of verified"),
        ("/rejections.csv?since=yesterday", "since should be a time"),
        ("/events.csv?before=x", "should be a row"),
        ("/deliveries.json?stat=dead", "There is no filter stat here"),
        (f"/events.csv?reference={'r' * 201}", "reference should have 200 characters at most"),
        ("/overview.json?since=7days", "since should be one of 24h, 7d, 30d"),
    ],
)
def test_a_filter_that_is_mistyped_is_refused_and_lists_nothing(
    own: Browser, path: str, words: str
) -> None:
    page = own.get(path)
    assert (page.status, "192.0.2" in page.text) == (400, False)
    assert words in re.sub("`|</?[a-z]+>", "", page.text)


@for_each("cell", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "＝1"])
def test_no_cell_of_a_csv_is_a_formula(cell: str) -> None:
    text = (words.csv_head(["x"]) + words.csv_lines([[cell]])).decode("utf-8-sig")
    (_, shown) = csv.reader(io.StringIO(text, newline=""))
    assert shown[0].startswith(("'", "[U+000D]"))
    assert words.csv_lines([[-1]]) == b'"-1"\r\n', "a number of ours is one"


class FewReaders(Readers):
    """Stands for the readers: they are busy at every other look, and fail from `end` on."""

    def __init__(self, end: int) -> None:
        self.looks = 0
        self._end = end

    async def run(self, work: Callable[[Database], Any], page: PageReader | None = None) -> Any:
        self.looks += 1
        if self.looks >= self._end:
            raise StoreUnreadableError("it is gone")
        if self.looks % 2:
            raise TooBusyError("busy")
        return work(cast(Any, None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered(Row):
    n: int


def numbers(_: Database, before: int | None) -> tuple[Sequence[Row], int | None]:
    first = 9 if before is None else before - 1
    return [Numbered(n=first)], first if first > 1 else None


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "AGAIN_S", 0.0)


def parts(readers: FewReaders) -> AsyncIterator[bytes]:
    return lists.parts(readers, Numbered, numbers)


async def test_a_part_that_is_refused_for_a_moment_is_read_again() -> None:
    text = b"".join([part async for part in parts(FewReaders(end=99))]).decode("utf-8-sig")
    assert [row["n"] for row in csv.DictReader(io.StringIO(text))] == list("987654321")


async def test_a_csv_that_can_not_be_gone_on_with_ends_before_its_end() -> None:
    class Broken(RequestHandler):
        get_csv: Callable[..., Awaitable[None]] = Handler.send_csv

        async def get(self) -> None:
            await self.get_csv("events.csv", parts(FewReaders(end=5)))

    def ask(port: int) -> bytes:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 200
        with pytest.raises(IncompleteRead) as cut:
            answer.read()
        connection.close()
        return cut.value.partial

    server = HTTPServer(Application([("/", Broken)]))
    (own,) = bind_sockets(0, "127.0.0.1")
    server.add_socket(own)
    assert b'"8"' in await asyncio.to_thread(ask, own.getsockname()[1])
    server.stop()
    await server.close_all_connections()
