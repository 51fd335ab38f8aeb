"""What a line of the log looks like, and what may never be in one.

One canonical line per webhook and per attempt, with constant event names and ids as fields.
Bodies, keys, signatures, tokens, session ids and hooks' output are never passed here. The
redaction below is a second safeguard. Each function of the first half is one of structlog's
processors. The second half is about lines that premblyd's own code does not write: those of
libraries, warnings, and exceptions that nobody caught. Their texts may hold request data, so only
what stands in the code is shown.
"""

import logging
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Literal, cast, get_args

import orjson
from structlog.typing import EventDict, WrappedLogger

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
