"""A connection's stream: Tornado's, but a client that has ended its sending gets its answer, and
the loop looks at its socket only when there is something to see."""

import re
from asyncio import Future
from collections.abc import Callable
from typing import Any, cast

from tornado.httputil import HTTPInputError
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, UnsatisfiableReadError

from premblyd.queue.inbox import ConnectionFault

Handler = Callable[[Any, int], None]


class PatientLoop:
    """Tornado's loop as a stream sees it, but for this: a stream that wants to hear no more of what
    arrives is obeyed only once something does arrive.

    Tornado stops looking at the socket after each head, and looks again after each answer. A client
    sends nothing between these, so both are for nothing: without them the loop's thread takes 0.92
    of the processor time for a webhook, at 16 clients and at 64.
    """

    READ, WRITE, ERROR = IOLoop.READ, IOLoop.WRITE, IOLoop.ERROR

    def __init__(self, loop: IOLoop) -> None:
        self._loop = loop
        self._handler: Handler | None = None
        self._wanted = 0  # the events that the stream wants to hear of
        self._watched = 0  # those that the loop looks for: the wanted ones, and perhaps READ

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def add_handler(self, fd: int, handler: Handler, events: int) -> None:
        """Tell `handler` of these events of the socket `fd`, the only one of this stream."""
        self._handler = handler
        self._wanted = self._watched = events
        self._loop.add_handler(fd, self._handle, events)

    def update_handler(self, fd: int, events: int) -> None:
        """Tell the handler of these events from now on, and of no others."""
        self._wanted = events
        watched = events | (self._watched & IOLoop.READ)
        if watched != self._watched:
            self._watch(fd, watched)

    def remove_handler(self, fd: int) -> None:
        """Tell the handler of nothing more."""
        self._loop.remove_handler(fd)
        self._handler = None  # which refers to the stream, and the stream to this

    def _handle(self, fd: int, events: int) -> None:
        if events & ~self._wanted:
            self._watch(fd, self._wanted)  # or the loop would report it in every round
        if self._handler is not None and (wanted := events & self._wanted):
            self._handler(fd, wanted)

    def _watch(self, fd: int, events: int) -> None:
        self._watched = events
        self._loop.update_handler(fd, events)


SHORT_HEAD_BYTES = 2048
MAX_NAME_BYTES = 256
_LONG_NAME = re.compile(rb"\n[^:\r\n]{%d}" % (MAX_NAME_BYTES + 1))
_BAD_REQUEST = b"HTTP/1.1 400 "  # only Tornado itself answers 400, to what is no HTTP


class Stream(IOStream):
    """Tornado's stream closes when the other side has sent its last byte. That side may still read
    (RFC 9110, 9293), so this one stays open until something more is to be read, which is after
    the answer is written."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.io_loop = cast(IOLoop, PatientLoop(self.io_loop))
        super().set_nodelay(True)  # each answer is one write: nothing is gained by waiting for more
        self.ended = False  # the client will send no more
        self._malformed = False

    @property
    def fault(self) -> ConnectionFault | None:
        """Why Tornado could not read what the client sent; None: it could."""
        if self._malformed:
            return ConnectionFault.MALFORMED
        return (
            ConnectionFault.HEAD_TOO_LARGE
            if isinstance(self.error, UnsatisfiableReadError)
            else None
        )

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Read. Report the end of what the client sends, by 0, only to the second read that waits
        for more: at the first, what is in the buffer may be enough."""
        count = super().read_from_fd(buf)
        if count != 0 or (self.ended and self.reading()):
            return count
        self.ended = True
        if not self.reading():
            # No read is waiting, and the loop would report the end of the stream in every round.
            writing = IOLoop.WRITE if self.writing() else 0
            self.io_loop.update_handler(self.fileno(), IOLoop.ERROR | writing)
        return None

    async def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> bytes:
        """Read a head. Raise HTTPInputError when a header's name is long: Tornado keeps the last
        thousand names in memory, whatever their length."""
        head = await super().read_until_regex(regex, max_bytes)
        if len(head) > SHORT_HEAD_BYTES and _LONG_NAME.search(head):
            raise HTTPInputError("a header's name is too long")
        return head

    def set_nodelay(self, value: bool) -> None:
        """Do nothing: it is set for good. Tornado would set and unset it around each answer, which
        costs two system calls and 2.5 µs of a webhook's 145 in the loop."""

    def write(self, data: bytes | memoryview) -> "Future[None]":
        if data[:13] == _BAD_REQUEST:
            self._malformed = True
        return super().write(data)
