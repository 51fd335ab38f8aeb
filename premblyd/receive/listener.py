"""A listening socket that pauses when the machine lacks what a connection needs."""

import errno
import socket
from collections.abc import Iterable
from typing import Any, cast

from tornado.ioloop import IOLoop

from premblyd.occurrences import DaemonWaits
from premblyd.telemetry import tell

PAUSE_S = 1.0
_LACKING = {
    errno.EMFILE: "file descriptors",
    errno.ENFILE: "file descriptors",
    errno.ENOBUFS: "memory",
    errno.ENOMEM: "memory",
}


def patient_listeners(listening: Iterable[socket.socket]) -> list[socket.socket]:
    """Return the listening sockets as Tornado's server shall use them."""
    return [cast(socket.socket, PatientListener(each)) for each in listening]


class PatientListener:
    """A listening socket as Tornado's server uses it. When the machine lacks something it pauses,
    and clients wait in the kernel's queue. Tornado by itself would try again at once and log a
    traceback each time: that is a whole core, and 8,000 lines a second."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def accept(self) -> tuple[socket.socket, Any]:
        """Return a connection. Raise BlockingIOError when none waits, or when the machine lacks
        what it needs."""
        try:
            return self._socket.accept()
        except OSError as error:
            if error.errno not in _LACKING:
                raise
            tell(DaemonWaits(part="connections", lacks=_LACKING[error.errno]))
            IOLoop.current().update_handler(self, 0)
            IOLoop.current().call_later(PAUSE_S, self._resume)
            raise BlockingIOError from None

    def _resume(self) -> None:
        if self.fileno() >= 0:
            IOLoop.current().update_handler(self, IOLoop.READ)
