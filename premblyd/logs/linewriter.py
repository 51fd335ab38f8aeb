"""Writing lines to a descriptor that may block, fill up or break, without ever waiting for it.

The log's reader may hang and its disk may be full, and the daemon goes on: lines wait in a bounded
buffer for a thread that writes them. What does not fit is dropped and counted, and the count is
written as soon as there is room again, in the place of the lines that are missing.
"""

import atexit
import os
import queue
import select
import threading
import time
from collections.abc import Callable

MAX_WAITING_BYTES = 4 << 20  # about 10,000 lines
RETRY_S = 0.5  # after a full disk or a reader that has gone: both may come back
GATHER_S = 0.005  # between writes: under load many lines cost one write and one change of threads
EXIT_S = 1.0  # how long the end of the process waits for the last lines


def identity(descriptor: int) -> tuple[int, int, int]:
    """Return what is the same as long as the descriptor is the same file."""
    status = os.fstat(descriptor)
    return descriptor, status.st_dev, status.st_ino


class LineWriter:
    """Writes lines to a descriptor, in order, in a thread of its own."""

    def __init__(self, descriptor: int, dropped_line: Callable[[int], bytes]) -> None:
        """Write to `descriptor`; `dropped_line` makes the line that says how many are missing."""
        self.dropped_line = dropped_line
        # A copy: should somebody close the descriptor, its number may soon be another file's.
        self._descriptor = os.dup(descriptor)
        self.identity = identity(descriptor)
        self._lock = threading.RLock()  # collecting garbage may log too, in the midst of a write
        self._lines: list[bytes] = []
        self._waiting_bytes = 0  # also of what is being written
        self._dropped = 0
        self._idle = True
        self._closing = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="premblyd-log", daemon=True)
        self._thread.start()
        atexit.register(self.flush)

    def write(self, line: bytes) -> None:
        """Write `line`, which ends with a newline, soon. Never wait and never raise."""
        with self._lock:
            if self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
                self._dropped += 1
                return
            if self._dropped:
                self._lines.append(self._missing())
            self._lines.append(line)
            self._waiting_bytes += len(line)
            if self._idle:
                self._idle = False
                self._wake.put(None)

    def flush(self, timeout_s: float = EXIT_S) -> bool:
        """Wait until everything is written, at most `timeout_s`. Return whether it is."""
        deadline = time.monotonic() + timeout_s
        while not self._idle:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    def close(self) -> None:
        """Write what waits, as far as that works within a second, and end."""
        atexit.unregister(self.flush)
        self.flush()
        with self._lock:
            self._closing = True
            if self._idle:
                self._idle = False
                self._wake.put(None)

    def _missing(self) -> bytes:
        count, self._dropped = self._dropped, 0
        line = self.dropped_line(count)
        self._waiting_bytes += len(line)
        return line

    def _run(self) -> None:
        while not self._closing:
            self._wake.get()
            while piece := self._take():
                self._write_whole(piece)
                with self._lock:
                    self._waiting_bytes -= len(piece)
                time.sleep(GATHER_S)
        os.close(self._descriptor)

    def _take(self) -> bytes:
        """Return all that waits; nothing once the thread may sleep."""
        with self._lock:
            if self._dropped and not self._lines:
                self._lines.append(self._missing())
            if not self._lines or self._closing:
                self._idle = True
                return b""
            piece = b"".join(self._lines)
            self._lines = []
            return piece

    def _write_whole(self, piece: bytes) -> None:
        """Write `piece`, however long it takes: a line is never cut."""
        rest = memoryview(piece)
        while rest and not self._closing:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody made it non-blocking: it is theirs as well
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll(RETRY_S * 1000)
            except OSError:
                time.sleep(RETRY_S)
