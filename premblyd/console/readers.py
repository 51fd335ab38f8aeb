"""What the console reads the record by. The daemon brings it: it alone names a database."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from premblyd.engines.connections import Database

Found = TypeVar("Found")


class Readers(Protocol):
    """Reads the record beside the daemon's work."""

    def run(self, work: Callable[[Database], Found]) -> Awaitable[Found]:
        """Return what `work` reads. Raise TryAgainError when it takes too long, or too many read
        at once."""
        ...
