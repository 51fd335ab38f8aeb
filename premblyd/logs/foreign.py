"""Lines of the log that premblyd's own code does not write: those of libraries, warnings, and
exceptions that nobody caught. Their texts may hold request data, so only what stands in the code is
shown."""

import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, cast, get_args

from premblyd.logs.lines import Level

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
