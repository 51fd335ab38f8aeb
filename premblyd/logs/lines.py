"""What a line of the log looks like, and what may never be in one.

One canonical line per webhook and per attempt, with constant event names and ids as fields.
Bodies, keys, signatures, tokens, session ids and hooks' output are never passed here. The
redaction below is a second safeguard. Each function is one of structlog's processors.
"""

import re
import sys
import time
from types import TracebackType
from typing import Any, Literal

import orjson
from structlog.typing import EventDict, WrappedLogger

from premblyd import jsontext, times
from premblyd.privacy.fields import DROPPED_LOG_KEYS, OWN_LOG_KEYS
from premblyd.privacy.identifiers import is_prembly_id

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
