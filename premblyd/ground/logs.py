"""The log: what a line looks like, what may never be in one, and where it goes.

One canonical line per webhook and per attempt, with constant event names and ids as fields.
Bodies, keys, signatures, tokens, session ids and hooks' output are never passed here. The
redaction below is a second safeguard: each function up to `encode` is one of structlog's
processors. Behind them it is about lines that premblyd's own code does not write: those of
libraries, warnings, and exceptions that nobody caught. Their texts may hold request data, so only
what stands in the code is shown.

The log's reader may hang and its disk may be full, and the daemon goes on: lines wait in a bounded
buffer for a thread that writes them. What does not fit is dropped and counted, and the count is
written as soon as there is room again, in the place of the lines that are missing.
"""

import atexit
import contextlib
import functools
import logging
import os
import queue
import re
import select
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Literal, TextIO, cast, get_args

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from premblyd.ground import jsontext, times
from premblyd.ground.privacy import DROPPED_LOG_KEYS, OWN_LOG_KEYS, is_prembly_id, stand_in

Level = Literal["debug", "info", "warning", "error", "critical"]

_LONG_NUMBER = re.compile(r"\d{10,}")  # a BVN, a NIN, a phone's, an account's or a card's
_DIGITS_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_TEN_ZEROS = b"0" * 10
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}  # syslog(3)


def name_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace an exception by its type and the lines it came through, not its text: the text may
    quote the value that caused it."""
    raised = event.pop("exc_info", None)
    if isinstance(raised, tuple):  # as sys.exc_info() returns it
        raised = raised[1]
    elif raised is True:
        raised = sys.exception()
    if isinstance(raised, BaseException):
        event["exception"] = type(raised).__name__
        event["traceback"] = _frames(raised.__traceback__)
    return event


def _frames(traceback: TracebackType | None) -> list[str]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return frames[-20:]


def redact_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace the values of keys that may hold a secret or personal data, whatever they are."""
    if not DROPPED_LOG_KEYS.isdisjoint(event):
        for key in DROPPED_LOG_KEYS.intersection(event):
            event[key] = "[redacted]"
    return event


def digest_reference(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace a verification's reference by a digest of it."""
    if reference := event.get("reference"):
        event["reference"] = stand_in(str(reference))
    return event


def redact_numbers(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace long numbers in texts that premblyd did not make itself: they may be a person's."""
    for key, value in event.items():
        if key in OWN_LOG_KEYS or not isinstance(value, str) or len(value) < 10:
            continue
        if not is_prembly_id(value):
            event[key] = _LONG_NUMBER.sub("[redacted]", value)
    return event


def add_level_and_time(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Do what structlog's two processors do, but format a second's time once."""
    event["level"] = "error" if method == "exception" else method
    event["timestamp"] = times.log_timestamp(time.time_ns())
    return event


def to_json(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    """Return the line as JSON, without long numbers."""
    line = _dumps(event)
    # To look through the line once costs a fifth of looking at each value, and most lines have no
    # such number.
    if not line.isascii() or _TEN_ZEROS in line.translate(_DIGITS_TO_ZEROS):
        line = _dumps(redact_numbers(_, __, event))
    return line + b"\n"


def to_journal(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    """Put the level before the line as systemd reads it: `journalctl -p warning` finds it."""
    return b"<%d>" % _PRIORITIES.get(event["level"], 6) + to_json(_, __, event)


def encode(_: WrappedLogger, __: str, text: Any) -> bytes:
    """Return the console's line as bytes."""
    return f"{text}\n".encode("utf-8", "backslashreplace")


def _dumps(event: EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=_type_name)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        text = jsontext.text(event, default=_type_name, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def _type_name(value: object) -> str:
    return f"<{type(value).__name__}>"  # its text may quote anything, or raise


# Writes a line of the log, by its level, its event's name and its fields.
Write = Callable[[Level, str, dict[str, Any]], None]


def report_the_unexpected(write: Write) -> None:
    """Write, without its text, what Python would print: an exception that nobody caught, in any
    thread, in a callback of C code or while an object is removed; and warnings."""

    def report(where: str, error: BaseException | None) -> None:
        if isinstance(error, Exception):
            write("error", "daemon.unexpected", {"where": where, "exc_info": error})

    def warn(_: object, category: type[Warning], file: str, line: int, *__: object) -> None:
        warning = {"library": "warnings", "text": category.__name__, "where": f"{file}:{line}"}
        write("warning", "library.message", warning)

    sys.excepthook = lambda _, error, __: report("python", error)
    sys.unraisablehook = lambda hooked: report("unraisable", hooked.exc_value)
    threading.excepthook = lambda hooked: report("thread", hooked.exc_value)
    warnings.showwarning = cast(Any, warn)


class LibraryHandler(logging.Handler):
    """Passes on other libraries' lines by where they come from, and by their template if it stands
    in the code: arguments and finished text may hold request data."""

    def __init__(self, write: Write) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        name = record.levelname.lower()
        level = cast(Level, name if name in get_args(Level) else "info")
        message = {
            "library": record.name,
            "text": _template(record),
            "where": f"{record.pathname}:{record.lineno}",
            "exc_info": record.exc_info,
        }
        self._write(level, "library.message", message)


def _template(record: logging.LogRecord) -> str | None:
    """Return the first line of the record's template; None when it may hold data."""
    if not isinstance(record.msg, str):  # an object, such as an exception, with its data
        return type(record.msg).__name__
    if _is_literal(record):
        return record.msg.partition("\n")[0]
    if record.name == "asyncio":
        # Up to the first bracket it is words and names of code: "Task exception was never
        # retrieved", "Exception in callback Exchange._committed(…)".
        found = re.match(r"[A-Za-z][A-Za-z', -]*", record.msg)
        return found[0].strip() if found else None
    return None


def _is_literal(record: logging.LogRecord) -> bool:
    """Return whether the record's text stands in the code that logs it."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_lineno == record.lineno and frame.f_code.co_filename == record.pathname:
            return record.msg in frame.f_code.co_consts
        frame = frame.f_back
    return False


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
            redact_numbers,
            structlog.dev.ConsoleRenderer(colors=is_terminal and not os.environ.get("NO_COLOR")),
            encode,
        ]
    else:
        to_line = [to_journal if _is_journal(stream) else to_json]
    if not references:
        to_line.insert(0, digest_reference)
    processors = [name_exception, redact_secrets, add_level_and_time, *to_line]
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
