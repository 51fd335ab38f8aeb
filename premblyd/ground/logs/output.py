"""Where the log goes, and from which level on: structlog, set up, and a writer that never waits.

The log's reader may hang and its disk may be full, and the daemon goes on: lines wait in a bounded
buffer for a thread that writes them. What does not fit is dropped and counted, and the count is
written as soon as there is room again, in the place of the lines that are missing."""

import atexit
import contextlib
import functools
import logging
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from premblyd.ground.logs import lines
from premblyd.ground.logs.lines import Level, LibraryHandler

MAX_WAITING_BYTES = 4 << 20  # about 10,000 lines
RETRY_S = 0.5  # after a full disk or a reader that has gone: both may come back
GATHER_S = 0.005  # between writes: under load many lines cost one write and one change of threads
EXIT_S = 1.0  # how long the end of the process waits for the last lines


def file_identity(descriptor: int) -> tuple[int, int, int]:
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
        self.identity = file_identity(descriptor)
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


Format = Literal["auto", "console", "json"]
# The lowest levels at which lines of these libraries are logged, whatever `log.level` says.
_FLOORS = {
    "tornado.access": logging.CRITICAL,
    "tornado.general": logging.WARNING,  # each malformed request; webhook.rejected tells
    "tornado.curl_httpclient": logging.INFO,  # its DEBUG lines are what goes over the wire
    "peewee": logging.INFO,  # its DEBUG lines hold the values of every statement
}


def get_logger(**fields: Any) -> FilteringBoundLogger:
    """Return a logger whose lines carry `fields`."""
    logger: FilteringBoundLogger = structlog.get_logger(**fields)
    return logger


def write(level: Level, event: str, fields: dict[str, Any]) -> None:
    """Write a line of the log, now.

    The logger is bound once for each configuration: structlog's lazy logger costs 9 µs a line more.
    """
    global _bound, _bound_to
    processors = structlog.get_config()["processors"]
    if processors is not _bound_to:
        _bound, _bound_to = get_logger().bind(), processors
    getattr(_bound, level)(event, **fields)


_bound: Any = None
_bound_to: object = None


class _Logger:
    """What structlog hands its finished lines to."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = write


_writers: list[LineWriter] = []  # at most one: the process has one standard error


def configure(
    log_format: Format, level: str, stream: TextIO | None = None, *, references: bool = True
) -> None:
    """Send every line, those of Tornado and Peewee too, to `stream` (default: stderr). Without
    `references`, a digest stands for each.

    A real file or pipe is written by a thread: nobody waits for its reader or its disk.
    """
    stream = stream or sys.stderr  # None: the process began without one
    is_terminal = stream is not None and stream.isatty()
    as_console = log_format == "console" or (log_format == "auto" and is_terminal)
    to_line: list[Processor]
    if as_console:
        to_line = [
            lines.redact_numbers,
            structlog.dev.ConsoleRenderer(colors=is_terminal and not os.environ.get("NO_COLOR")),
            lines.encode,
        ]
    else:
        to_line = [lines.to_journal if _is_journal(stream) else lines.to_json]
    if not references:
        to_line.insert(0, lines.digest_reference)
    processors = [lines.name_exception, lines.redact_secrets, lines.add_level_and_time, *to_line]
    write_line = _writing_to(stream, functools.partial(_dropped_line, processors))
    logger = _Logger(write_line)
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=lambda *_: logger,
        cache_logger_on_first_use=False,  # a reload may change the level
    )
    root = logging.getLogger()
    root.handlers = [LibraryHandler(write)]
    root.setLevel(numeric)
    for name, floor in _FLOORS.items():
        logging.getLogger(name).setLevel(max(numeric, floor))


def write_text(text: str) -> bool:
    """Write `text`, for a person, after the lines that were logged: what reads them may be stuck,
    so it goes the same way. Return whether there is such a way."""
    for writer in _writers:
        writer.write(f"{text}\n".encode("utf-8", "backslashreplace"))
    return bool(_writers)


def _writing_to(
    stream: TextIO | None, dropped_line: Callable[[int], bytes]
) -> Callable[[bytes], None]:
    """Return what writes a line to `stream`; the same writer as before, if it is the same file."""
    if stream is None:
        return lambda _: None
    try:
        identity = file_identity(stream.fileno())
    except (OSError, ValueError):  # no real file: there is nothing to wait for
        return lambda line: _write_to_memory(stream, line)
    if not _writers or _writers[0].identity != identity:
        while _writers:
            _writers.pop().close()
        _writers.append(LineWriter(stream.fileno(), dropped_line))
    _writers[0].dropped_line = dropped_line
    return _writers[0].write


def _write_to_memory(stream: TextIO, line: bytes) -> None:
    with contextlib.suppress(ValueError):  # closed
        stream.write(line.decode())


def _dropped_line(processors: list[Processor], count: int) -> bytes:
    """Make the line that stands for those that were dropped, whatever level is configured."""
    line: Any = {"event": "log.lines_dropped", "count": count}
    for processor in processors:
        line = processor(None, "warning", line)
    return cast(bytes, line)


def _is_journal(stream: TextIO | None) -> bool:
    """Return whether systemd connected `stream` to its journal: systemd.exec(5)."""
    if stream is None:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no real file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
