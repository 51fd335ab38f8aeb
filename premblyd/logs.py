"""Logging through structlog: set-up, and what may never be in a line.

One canonical line per webhook and per attempt, with constant event names and ids as fields.
Bodies, keys, signatures, tokens, session ids and hooks' output are never passed here; the
redaction below is the second lock on that door.
"""

import functools
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, TextIO, cast

import orjson

# structlog loads rich for its tracebacks, which are never shown here: without it the daemon
# keeps 4 MB less.
_RICH: Any = sys.modules.setdefault("rich", cast(Any, None))
import structlog  # noqa: E402
from structlog.typing import (  # noqa: E402
    EventDict,
    FilteringBoundLogger,
    Processor,
    WrappedLogger,
)

if _RICH is None:
    del sys.modules["rich"]

Format = Literal["auto", "console", "json"]

# Keys whose value is dropped whatever it is (docs.prembly.com; fields that consumers redact).
SECRET_KEYS = frozenset(
    "body token signature session_id key_text authorization secret password output photo image"
    " images base64image selfie bvn nin vnin number account_number address email phone"
    " telephoneno user_ref detail first_name last_name".split()
)
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_ELEVEN_DIGITS = re.compile(r"(?<!\d)\d{11}(?!\d)")  # the form of a BVN, a NIN and a phone number
_DIGITS_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_ELEVEN_ZEROS = b"0" * 11
_FLOORS = {"tornado.access": logging.CRITICAL, "peewee": logging.INFO}
_FLOORS["peewee.migrations"] = logging.WARNING  # daemon.started names what was migrated
_FLOORS["tornado.general"] = logging.WARNING  # each malformed request; webhook.rejected tells
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}  # syslog(3)


def get_logger(**fields: Any) -> FilteringBoundLogger:
    """Return a logger whose lines carry `fields`."""
    logger: FilteringBoundLogger = structlog.get_logger(**fields)
    return logger


def safe_id(text: str | None) -> str | None:
    """Return `text` if it is plainly an identifier, else None: a sender chose it, so it may be
    a person's number or a whole document."""
    if text is None or not _SAFE_ID.fullmatch(text) or _ELEVEN_DIGITS.search(text):
        return None
    return text


def configure(log_format: Format, level: str, stream: TextIO | None = None) -> None:
    """Send every line, those of Tornado and Peewee too, to `stream` (default: stderr)."""
    stream = stream or sys.stderr
    as_console = log_format == "console" or (log_format == "auto" and stream.isatty())
    colours = stream.isatty()
    to_text: list[Processor]
    if as_console:
        to_text = [_redact_numbers, structlog.dev.ConsoleRenderer(colors=colours)]
    else:
        to_text = [_to_journal if _is_journal(stream) else _to_json]
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[_name_exception, _redact_secrets, _add_level_and_time, *to_text],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,  # a reload may change the level
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(numeric)
    for name, floor in _FLOORS.items():
        # Peewee's DEBUG lines hold the values of every statement.
        logging.getLogger(name).setLevel(max(numeric, floor))


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    line = _dumps(event)
    # One look at the line costs a fifth of one at each value; most lines have no such number.
    if not line.isascii() or _ELEVEN_ZEROS in line.translate(_DIGITS_TO_ZEROS):
        line = _dumps(_redact_numbers(_, __, event))
    return line.decode()


def _to_journal(_: WrappedLogger, __: str, event: EventDict) -> str:
    """Put the level before the line as systemd reads it: `journalctl -p warning` finds it."""
    return f"<{_PRIORITIES.get(event['level'], 6)}>{_to_json(_, __, event)}"


def _dumps(event: EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=str)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        text = json.dumps(event, default=str, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def _is_journal(stream: TextIO) -> bool:
    """Return whether systemd connected `stream` to its journal: systemd.exec(5)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no real file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _add_level_and_time(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Do what structlog's two processors do, but format a second's time once."""
    second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    event["level"] = "error" if method == "exception" else method
    event["timestamp"] = f"{_utc(second)}.{nanoseconds // 1000:06}Z"
    return event


@functools.lru_cache(maxsize=2)
def _utc(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


class _ToStructlog(logging.Handler):
    """Pass on other libraries' lines by their template alone: arguments may hold request data.
    Of several lines only the first: asyncio quotes exceptions and tasks in the others."""

    def emit(self, record: logging.LogRecord) -> None:
        log: Callable[..., Any] = getattr(get_logger(), record.levelname.lower(), get_logger().info)
        is_text = isinstance(record.msg, str)  # else an object, such as an exception, with its data
        text = record.msg.partition("\n")[0] if is_text else type(record.msg).__name__
        log("library.message", library=record.name, text=text, exc_info=record.exc_info)


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
    if not SECRET_KEYS.isdisjoint(event):
        for key in SECRET_KEYS.intersection(event):
            event[key] = "[redacted]"
    return event


def _redact_numbers(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str) and len(value) >= 11:
            event[key] = _ELEVEN_DIGITS.sub("[redacted]", value)
    return event
