"""What one webhook with one hook costs, in counts: functions of ours, their files, and statements.

No clock can say it: a busy machine is slow. Where a count grows, that is to be meant, and the bound
is raised here; where it falls, the bound is lowered.
"""

import asyncio
import json
import operator
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import premblyd
from premblyd.config.load import load_config
from premblyd.daemon import Daemon
from premblyd.store.sqlite.transaction import SqliteTransaction
from tests.support.configuration import configuration, shell
from tests.support.database import Connection, new_place, reading, url_of
from tests.support.waiting import until
from tests.support.webhooks import webhook

MOST_FUNCTIONS, MOST_FILES, MOST_STATEMENTS = 224, 38, 13
OURS = str(Path(premblyd.__file__).parent)
SENT = b'{"status": true, "response_code": "00", "verification": {"reference": "%d"}}'


class Walk:
    """What is run through while it is open, in all threads. What Python calls a function, but
    nobody would (of a comprehension, a lambda), is none."""

    def __init__(self) -> None:
        self.functions: set[tuple[str, str]] = set()
        self.statements: set[str] = set()
        self.is_open = False

    def call(self, frame: FrameType, event: str, _: object) -> None:
        if self.is_open and event == "call" and not frame.f_code.co_name.startswith("<"):
            self.functions.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    def statement(self, name: str) -> Any:
        original = getattr(SqliteTransaction, name)

        def noted(transaction: SqliteTransaction, which: Any, *args: Any, **values: Any) -> Any:
            if self.is_open:
                self.statements.add(getattr(which, "text", repr(which)))
            return original(transaction, which, *args, **values)

        return noted


@contextmanager
def profiled(walk: Walk) -> Iterator[None]:
    threading.setprofile(walk.call)
    sys.setprofile(walk.call)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def only_dispatcher(daemon: Daemon) -> None:
    daemon.loops.start("dispatcher", daemon._dispatcher.run())


@pytest.mark.process
@pytest.mark.sqlite  # of a server, test_trips counts the ways there
def test_a_webhook_with_one_hook_takes_no_more_than_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk, place = Walk(), new_place(tmp_path)
    for name in ("_execute", "inserting_many", "changing_many"):
        monkeypatch.setattr(SqliteTransaction, name, walk.statement(name))
    monkeypatch.setattr(Daemon, "_start_loops", only_dispatcher)  # others turn now and then
    own = {"listen": f"unix:{tmp_path}/socket", "database": url_of(place)}
    path = tmp_path / "premblyd.yaml"
    path.write_text(json.dumps(configuration(actions=[shell("crm", "true")], **own)))

    requests = [webhook(SENT % number) for number in (1, 2)]

    async def send(number: int, record: Connection) -> None:
        reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/socket")
        writer.write(requests[number - 1])
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        ended = "SELECT count(*) FROM delivery WHERE state = 'succeeded'"
        await until(lambda: record.execute(ended).fetchone() == (number,))
        writer.close()
        await writer.wait_closed()

    async def run() -> None:
        async with Daemon(load_config(path), path):
            with reading(place) as record:  # what a test itself runs through counts not
                await send(1, record)  # nor what is made for the first one
                walk.is_open = True
                await send(2, record)
                walk.is_open = False

    with profiled(walk):
        asyncio.run(run())
    functions = [each for each in walk.functions if each[0].startswith(OURS)]
    counts = len(functions), len({file for file, _ in functions}), len(walk.statements)
    most = (MOST_FUNCTIONS, MOST_FILES, MOST_STATEMENTS)
    assert all(map(operator.le, counts, most)), counts
