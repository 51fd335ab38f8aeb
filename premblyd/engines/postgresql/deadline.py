"""A limit for how long a connection may keep its thread waiting for the server.

No setting of PostgreSQL's own bounds a COMMIT that waits for a standby, and to cancel it would be
worse: the server then reports success, with a warning. So the socket is shut down, from another
thread. Whoever waits on it sees a lost connection, which is no promise of anything.
"""

import contextlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import psycopg


class Deadline:
    """Bounds what is done while it is entered. One thread enters it, as often as it likes."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.is_over = False
        self._began_at: float | None = None
        self._copy: SocketCopy | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="premblyd-deadline", daemon=True)

    def __enter__(self) -> Self:
        if not self._thread.is_alive():
            self._thread.start()
        self.is_over = False
        self._began_at = time.monotonic()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        with self._lock:
            self._began_at = None

    def watch(self, connection: "psycopg.Connection[Any]") -> None:
        """Shut down this connection's socket when the time is over."""
        self.forget()
        with self._lock:
            self._copy = SocketCopy(connection)

    def forget(self) -> None:
        """Watch no connection any more."""
        with self._lock:
            if self._copy is not None:
                self._copy.close()
            self._copy = None

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self.forget()

    def _run(self) -> None:
        while not self._closing.wait(self.limit_s / 10):
            with self._lock:
                began_at = self._began_at
                if began_at is not None and time.monotonic() - began_at > self.limit_s * 0.9:
                    self.is_over = True
                    if self._copy is not None:
                        self._copy.shut_down()


@contextlib.contextmanager
def bounded(connection: "psycopg.Connection[Any]", limit_s: float) -> Iterator[None]:
    """Shut down the connection's socket unless what is done within ends in time. It starts a
    thread, so it is for what is done rarely."""
    copy = SocketCopy(connection)
    timer = threading.Timer(limit_s, copy.shut_down)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        copy.close()


def interrupter(connection: "psycopg.Connection[Any]") -> Callable[[], None]:
    """Return what ends, from another thread and without waiting, whatever the connection does. The
    server notices within seconds that nobody waits for it any more."""
    copy = SocketCopy(connection)
    weakref.finalize(connection, copy.close)
    return copy.shut_down


class SocketCopy:
    """A connection's socket under a descriptor of its own, so that another thread can shut it down
    at any moment: libpq may close its own, and another file get that number."""

    def __init__(
        self, connection: "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]"
    ) -> None:
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    def shut_down(self) -> None:
        """Have both ends see the end of the connection now."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the socket, which may be in use all the same."""
        self._socket.close()
