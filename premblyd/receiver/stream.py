"""The connection's stream: as Tornado's, but a client may end its half and still get an answer."""

from typing import Any

from tornado.ioloop import IOLoop
from tornado.iostream import IOStream


class Stream(IOStream):
    """Tornado closes a stream when the other side will send no more (RFC 9110, 9293: it may still
    read). Here it stays open while nothing is to be read: until the answer is written.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ended = False  # the client will send no more

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
