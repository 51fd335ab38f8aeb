"""What every occurrence has."""

from dataclasses import dataclass
from typing import ClassVar

from premblyd.logs.lines import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """Something that happened. `event` names it in the log, which shows its fields in their order.

    A field `cause` is an exception: the log shows its type and frames, never its text. Those in
    `optional` are left out of the log while they are None.
    """

    event: ClassVar[str]
    level: ClassVar[Level] = "info"
    optional: ClassVar[frozenset[str]] = frozenset()

    def log_level(self) -> Level:
        """Return how grave this one is."""
        return self.level
