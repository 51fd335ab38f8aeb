"""The log: where lines go, what a line looks like, and what others may say in it."""

import sys
from typing import Any


def _import_structlog_alone() -> None:
    """Import structlog without rich, with which it would show tracebacks: the log has none, and
    rich takes 25 ms of the daemon's start, 6 %."""
    modules: dict[str, Any] = sys.modules
    is_hidden = "rich" not in modules
    if is_hidden:
        modules["rich"] = None
    try:
        import structlog  # noqa: F401
    finally:
        if is_hidden:
            del modules["rich"]


_import_structlog_alone()
