"""What is logged, kept instead of printed."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog.testing
from structlog.typing import EventDict


@contextmanager
def logged() -> Iterator[list[EventDict]]:
    """Yield the list of what is logged meanwhile."""
    with structlog.testing.capture_logs() as lines:
        yield lines
