"""Logging through structlog: set-up, and what may never be in a line.

One canonical line per webhook and per attempt, with constant event names and ids as fields.
Bodies, keys, signatures, tokens, session ids and hooks' output are never passed here; the
redaction below is the second lock on that door.
"""

import contextlib
import functools
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Literal, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from premblyd import jsontext, times
from premblyd.logs import linewriter
from premblyd.logs.linewriter import LineWriter
from premblyd.privacy.fields import DROPPED_LOG_KEYS, OWN_LOG_KEYS
from premblyd.privacy.identifiers import is_prembly_id

Format = Literal["auto", "console", "json"]
Level = Literal["debug", "info", "warning", "error", "critical"]

_LONG_NUMBER = re.compile(r"\d{10,}")  # a BVN, a NIN, a phone's, an account's or a card's
_DIGITS_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_TEN_ZEROS = b"0" * 10
_FLOORS = {"tornado.access": logging.CRITICAL, "peewee": logging.INFO}
_FLOORS["peewee.migrations"] = logging.WARNING  # daemon.started names what was migrated
_FLOORS["tornado.general"] = logging.WARNING  # each malformed request; webhook.rejected tells
_FLOORS["tornado.curl_httpclient"] = logging.INFO  # its DEBUG lines are what goes over the wire
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}  # syslog(3)


def get_logger(**fields: Any) -> FilteringBoundLogger:
    """Return a logger whose lines carry `fields`."""
    logger: FilteringBoundLogger = structlog.get_logger(**fields)
    return logger


def write(level: Level, event: str, fields: dict[str, Any]) -> None:
    """Write a line of this process's one log. By a logger that is bound once for each
    configuration: a lazy one costs 9 µs a line."""
    global _bound, _bound_to
    processors = structlog.get_config()["processors"]
    if processors is not _bound_to:
        _bound, _bound_to = get_logger().bind(), processors
    getattr(_bound, level)(event, **fields)


_bound: Any = None
_bound_to: object = None


class _Lines:
    """What structlog hands its finished lines to."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = write


_writers: list[LineWriter] = []  # at most one: the process has one standard error


def configure(log_format: Format, level: str, stream: TextIO | None = None) -> None:
    """Send every line, those of Tornado and Peewee too, to `stream` (default: stderr).

    A real file or pipe is written by a thread: nobody waits for its reader or its disk.
    """
    stream = stream or sys.stderr  # None: the process began without one
    is_terminal = stream is not None and stream.isatty()
    as_console = log_format == "console" or (log_format == "auto" and is_terminal)
    to_line: list[Processor]
    if as_console:
        to_line = [_redact_numbers, structlog.dev.ConsoleRenderer(colors=is_terminal), _encode]
    else:
        to_line = [_to_journal if _is_journal(stream) else _to_json]
    processors = [_name_exception, _redact_secrets, _add_level_and_time, *to_line]
    lines = _Lines(_writing_to(stream, functools.partial(_dropped_line, processors)))
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,  # a reload may change the level
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(numeric)
    for name, floor in _FLOORS.items():
        # Peewee's DEBUG lines hold the values of every statement.
        logging.getLogger(name).setLevel(max(numeric, floor))


def write_text(text: str) -> bool:
    """Write `text`, for a person, after the lines that were logged: what reads them may be stuck,
    so it goes the same way. Return whether there is such a way."""
    for writer in _writers:
        writer.write(f"{text}\n".encode("utf-8", "backslashreplace"))
    return bool(_writers)


def report_the_unexpected() -> None:
    """Log, without its text, what Python would print: an exception that nobody caught, in any
    thread, in a callback of C code or while an object is removed; and warnings."""

    def report(where: str, error: BaseException | None) -> None:
        if isinstance(error, Exception):
            get_logger().error("daemon.unexpected", where=where, exc_info=error)

    def warn(_: object, category: type[Warning], file: str, line: int, *__: object) -> None:
        get_logger().warning(
            "library.message", library="warnings", text=category.__name__, where=f"{file}:{line}"
        )

    sys.excepthook = lambda _, error, __: report("python", error)
    sys.unraisablehook = lambda hooked: report("unraisable", hooked.exc_value)
    threading.excepthook = lambda hooked: report("thread", hooked.exc_value)
    warnings.showwarning = cast(Any, warn)


def _writing_to(
    stream: TextIO | None, dropped_line: Callable[[int], bytes]
) -> Callable[[bytes], None]:
    """Return what writes a line to `stream`; the same writer as before, if it is the same file."""
    if stream is None:
        return lambda _: None
    try:
        identity = linewriter.identity(stream.fileno())
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


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    line = _dumps(event)
    # One look at the line costs a fifth of one at each value; most lines have no such number.
    if not line.isascii() or _TEN_ZEROS in line.translate(_DIGITS_TO_ZEROS):
        line = _dumps(_redact_numbers(_, __, event))
    return line + b"\n"


def _to_journal(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    """Put the level before the line as systemd reads it: `journalctl -p warning` finds it."""
    return b"<%d>" % _PRIORITIES.get(event["level"], 6) + _to_json(_, __, event)


def _encode(_: WrappedLogger, __: str, text: Any) -> bytes:
    return f"{text}\n".encode("utf-8", "backslashreplace")


def _dumps(event: EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=_type_name)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        text = jsontext.text(event, default=_type_name, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def _type_name(value: object) -> str:
    return f"<{type(value).__name__}>"  # its text may quote anything, or raise


def _is_journal(stream: TextIO | None) -> bool:
    """Return whether systemd connected `stream` to its journal: systemd.exec(5)."""
    if stream is None:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no real file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _add_level_and_time(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Do what structlog's two processors do, but format a second's time once."""
    event["level"] = "error" if method == "exception" else method
    event["timestamp"] = times.log_timestamp(time.time_ns())
    return event


class _ToStructlog(logging.Handler):
    """Pass on other libraries' lines by where they come from, and by their template if it stands
    in the code: arguments and finished text may hold request data."""

    def emit(self, record: logging.LogRecord) -> None:
        log: Callable[..., Any] = getattr(get_logger(), record.levelname.lower(), get_logger().info)
        log(
            "library.message",
            library=record.name,
            text=_template(record),
            where=f"{record.pathname}:{record.lineno}",
            exc_info=record.exc_info,
        )


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


def _name_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace an exception by its type and the lines it came through, not its text: the text may
    quote the value that caused it."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    if isinstance(given, BaseException):
        given = (type(given), given, given.__traceback__)
    if isinstance(given, tuple) and given[0] is not None:
        event["exception"] = given[0].__name__
        event["traceback"] = _frames(given[2])
    return event


def _frames(traceback: TracebackType | None) -> list[str]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return frames[-20:]


def _redact_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if not DROPPED_LOG_KEYS.isdisjoint(event):
        for key in DROPPED_LOG_KEYS.intersection(event):
            event[key] = "[redacted]"
    return event


def _redact_numbers(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if key in OWN_LOG_KEYS or not isinstance(value, str) or len(value) < 10:
            continue
        if not is_prembly_id(value):
            event[key] = _LONG_NUMBER.sub("[redacted]", value)
    return event
