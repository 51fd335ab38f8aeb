"""Stopping what a thread computes: a database can be interrupted, Python's own work can't."""

import ctypes
import threading
from types import TracebackType
from typing import Self


class Stopped(BaseException):
    """Raised in the thread, wherever it is. Nobody's `except Exception` takes it."""


class Stopper:
    """Entered by a thread for a piece of work, which other threads can stop meanwhile. What follows
    the work is never stopped.

    The work must start no threads, as connecting to PostgreSQL does: until a new thread runs,
    CPython takes it for the one that starts it, so it would be stopped instead, and be waited for
    without end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread_id: int | None = None

    def __enter__(self) -> Self:
        self._thread_id = threading.get_ident()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        was_stopped = False
        while True:  # it may be stopped here too, until nobody can any more
            try:
                with self._lock:
                    self._thread_id = None
                _raise(threading.get_ident(), None)
                break
            except Stopped:
                was_stopped = True
        if was_stopped and error is None:
            raise Stopped

    def stop(self) -> None:
        """Stop the work, if any: as soon as the thread is in Python's code."""
        with self._lock:
            if self._thread_id is not None:
                _raise(self._thread_id, Stopped)


def _raise(thread_id: int, kind: type[BaseException] | None) -> None:
    """Have a thread raise an exception of this kind; None: not the one it was to raise."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread_id), None if kind is None else ctypes.py_object(kind)
    )
