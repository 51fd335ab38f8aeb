"""Statements that go to the server in pieces: each is one write, and ends in a Sync.

PostgreSQL takes a transaction for active from a client's first message until its Sync, and only
then counts its `idle_in_transaction_session_timeout`: a process that is frozen in between (SIGSTOP,
while its machine goes on) would keep its locks for ever. psycopg's pipeline writes after each
statement, and asks for answers by Flush, which ends the counting as well. So psycopg gets a queue
here that has nothing for libpq before a Sync.
"""

import functools
import select
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psycopg
from psycopg.abc import PipelineCommand
from psycopg.pq.abc import PGconn

MOST_BYTES = 8000  # of a piece: libpq writes what fills 8,192 by itself
_LONG_BYTES = 4096
_OF_MESSAGES = 64  # what they have beside names, texts and values
_OF_VALUE = 4  # each of its length, type and format
_LONG = (str, bytes, bytearray, memoryview)


def can_gather(connection: psycopg.Connection[Any]) -> bool:
    """Return whether this psycopg, of whose inside `Pieces` knows a little, sends pieces by it.
    With another, each statement has to be waited for."""
    if not psycopg.Pipeline.is_supported():  # libpq before 14
        return False
    with connection.pipeline() as pipeline:
        pieces = Pieces(connection, pipeline)
        answer = pieces.execute("SELECT 1", prepare=False)
        is_held = pieces.is_holding
    return is_held and answer.has_come


class Pieces:
    """A connection in a pipeline. What is executed stays here until an answer is read, the piece is
    full, or the pipeline ends."""

    def __init__(self, connection: psycopg.Connection[Any], pipeline: psycopg.Pipeline) -> None:
        self.info = connection.info
        self._connection = connection
        self._pipeline = pipeline
        pipeline.command_queue = self._calls = _Calls(connection.pgconn)

    @property
    def is_holding(self) -> bool:
        return bool(self._calls.held)

    def execute(
        self, text: str, values: Sequence[Any] | None = None, *, prepare: bool | None = None
    ) -> "Answer":
        """Have a statement run; what it fails with is raised where its piece is sent.

        One that is long is prepared. It can't go in one write, but then begins with its values, and
        while the server has but a part of these it counts.
        """
        if prepare is None and len(text) + _length(values or ()) > _LONG_BYTES:
            prepare = True
        cursor = self._connection.execute(text, values, prepare=prepare)
        while (late := self._calls.take_too_many()) is not None:
            results = self._pipeline.result_queue  # has one for each call
            awaited = [results.pop() for _ in late]
            self.send()
            self._calls.put_back(late)
            results.extend(reversed(awaited))
        return Answer(cursor, self)

    def send(self) -> None:
        """Send what is there as a piece, and wait for its answers. Raise what failed first."""
        self._pipeline.sync()


class Answer:
    """What the server says to a statement: waited for when it is read."""

    __slots__ = ("_cursor", "_pieces")

    def __init__(self, cursor: psycopg.Cursor[Any], pieces: Pieces) -> None:
        self._cursor = cursor
        self._pieces = pieces

    @property
    def has_come(self) -> bool:
        return self._cursor.pgresult is not None

    @property
    def rowcount(self) -> int:
        return self._come().rowcount

    @property
    def statusmessage(self) -> str | None:
        return self._come().statusmessage

    def fetchone(self) -> Any:
        return self._come().fetchone()

    def fetchall(self) -> list[Any]:
        return self._come().fetchall()

    def _come(self) -> psycopg.Cursor[Any]:
        if not self.has_come:
            self._pieces.send()
        return self._cursor


_Held = tuple[PipelineCommand, int]  # how many bytes it sends at most


class _Calls(deque[PipelineCommand]):
    """The queue of psycopg's calls of libpq, each of which makes messages. psycopg takes one after
    the other from it, and writes after each; here it finds a call only when a Sync has come, and
    this makes all of them."""

    def __init__(self, pgconn: PGconn) -> None:
        super().__init__()
        self._pgconn = pgconn
        self._bytes = 0
        self.held: list[_Held] = []

    def append(self, call: PipelineCommand) -> None:
        if call == self._pgconn.pipeline_sync:
            calls = [held for held, _ in self.held]
            self.held, self._bytes = [], 0
            super().append(functools.partial(self._make, [*calls, call]))
        else:
            self.put_back([(call, _size(call))])

    def put_back(self, late: Iterable[_Held]) -> None:
        self.held += late
        self._bytes += sum(size for _, size in late)

    def take_too_many(self) -> list[_Held] | None:
        """Take out the last that make a piece too long, but not its only one. None: there are
        none."""
        count = len(self.held)
        while self._bytes > MOST_BYTES and count > 1:
            count -= 1
            self._bytes -= self.held[count][1]
        late = self.held[count:]
        del self.held[count:]
        return late or None

    def _make(self, calls: Sequence[Callable[[], None]]) -> None:
        for call in calls:
            call()
        # psycopg tries once, and then waits for an answer that does not come to a half.
        while self._pgconn.flush():
            poll = select.poll()
            poll.register(self._pgconn.socket, select.POLLIN | select.POLLOUT)
            if any(event & ~select.POLLOUT for _, event in poll.poll()):
                self._pgconn.consume_input()


def _size(call: Any) -> int:
    """Return how many bytes a call sends at most, by what it is called with."""
    if not isinstance(call, functools.partial):
        return MOST_BYTES
    size = _OF_MESSAGES
    for value in (*call.args, *call.keywords.values()):
        if isinstance(value, list | tuple):
            size += _OF_VALUE * len(value) + _length(value)
        else:
            size += _length([value])
    return size


def _length(values: Iterable[Any]) -> int:
    """Return how long texts and bytes are together."""
    return sum(len(value) for value in values if isinstance(value, _LONG))
