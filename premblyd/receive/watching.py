"""When the loop looks at a connection's socket."""

from collections.abc import Callable
from typing import Any

from tornado.ioloop import IOLoop

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
