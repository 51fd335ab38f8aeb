"""The connection's stream: as Tornado's, but a client may end its half and still get an answer."""

import re
from asyncio import Future
from typing import Any

from tornado.httputil import HTTPInputError
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, UnsatisfiableReadError

from premblyd.store.inbox import Stray

SHORT_HEAD_BYTES = 2048
MAX_NAME_BYTES = 256
_LONG_NAME = re.compile(rb"\n[^:\r\n]{%d}" % (MAX_NAME_BYTES + 1))
_BAD_REQUEST = b"HTTP/1.1 400 "  # Tornado's own answer: the receiver gives none


class Stream(IOStream):
    """Tornado closes a stream when the other side will send no more (RFC 9110, 9293: it may still
    read). Here it stays open while nothing is to be read: until the answer is written.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ended = False  # the client will send no more
        self._malformed = False

    @property
    def fault(self) -> Stray | None:
        """What it sent that is no HTTP, if it did."""
        if self._malformed:
            return Stray.MALFORMED
        return Stray.HEAD_TOO_LARGE if isinstance(self.error, UnsatisfiableReadError) else None

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Read. That there is no more is said when a read waits for it a second time: at the
        first, what is in the buffer may do."""
        count = super().read_from_fd(buf)
        if count != 0 or (self.ended and self.reading()):
            return count
        self.ended = True
        if not self.reading():
            # Nobody waits for bytes; the loop would tell of the end again and again.
            writing = IOLoop.WRITE if self.writing() else 0
            self.io_loop.update_handler(self.fileno(), IOLoop.ERROR | writing)
        return None

    async def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> bytes:
        """Read a head. Raise HTTPInputError for a long name: Tornado remembers a thousand names,
        whatever their length."""
        head = await super().read_until_regex(regex, max_bytes)
        if len(head) > SHORT_HEAD_BYTES and _LONG_NAME.search(head):
            raise HTTPInputError("a header's name is too long")
        return head

    def write(self, data: bytes | memoryview) -> "Future[None]":
        if data[:13] == _BAD_REQUEST:
            self._malformed = True
        return super().write(data)
