"""Times as text: the only module that formats and reads them. Inside they are Unix milliseconds."""

import functools
import time
from datetime import UTC, datetime, timedelta
from typing import Any

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)


def now_ms() -> int:
    """Return what the wall clock says. (The daemon runs by its own `clock`.)"""
    return time.time_ns() // 1_000_000


def for_people(ms: int | None) -> str:
    """Return a time to the second, UTC, without saying so; nothing for None."""
    if ms is None:
        return ""
    try:
        moment = datetime.fromtimestamp(ms / 1000, UTC)
    # The machine's clock was far off, or somebody has put a text there.
    except (ValueError, OverflowError, OSError, TypeError):
        return f"{ms} ms"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def iso(ms: int) -> str:
    """Return a time for programs, in ISO 8601 with its zone, which is UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def for_file_name(ms: int) -> str:
    """Return a time to the second, UTC, as names of files have it: 20261127T071500Z."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")


def for_html(ms: Any) -> str:
    """Return a time for the `datetime` of a <time>, which knows no microseconds; nothing for what
    is none."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError, TypeError):
        return ""


def from_iso(text: str) -> int:
    """Return the time of an ISO 8601 date or time, in UTC unless it says another zone. Raise
    ValueError when it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round((moment - _EPOCH) / _MILLISECOND)


def log_timestamp(unix_ns: int) -> str:
    """Return a log line's time, to the microsecond."""
    second, nanoseconds = divmod(unix_ns, 1_000_000_000)
    return f"{_iso_second(second)}.{nanoseconds // 1000:06}Z"


@functools.lru_cache(maxsize=2)
def _iso_second(second: int) -> str:
    """Format a second once for all its log lines."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
