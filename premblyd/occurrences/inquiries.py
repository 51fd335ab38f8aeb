"""What can happen when Prembly is asked."""

from dataclasses import dataclass
from typing import ClassVar

from premblyd.logs.lines import Level
from premblyd.occurrences.base import Occurrence


@dataclass(frozen=True, slots=True, kw_only=True)
class InquiryAnswered(Occurrence):
    """Prembly was asked, and what came of it."""

    event: ClassVar[str] = "inquiry.answered"
    optional: ClassVar[frozenset[str]] = frozenset({"delivery", "stored_event_id"})
    purpose: str
    result: str
    event_id: int | None
    delivery: int | None = None
    stored_event_id: int | None = None
    reference: str | None
    http_status: int | None
    error: str | None
    answer_bytes: int | None
    duration_ms: int

    def log_level(self) -> Level:
        """Return `info` for what was to be expected."""
        return "info" if self.result in ("confirmed", "settled", "unsettled") else "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class InquiriesRefused(Occurrence):
    """Prembly refuses to answer as whom it is asked. It is asked again only after a while."""

    event: ClassVar[str] = "inquiry.refused"
    level: ClassVar[Level] = "error"
    http_status: int
    pause_s: int
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InquiriesPaused(Occurrence):
    """Prembly can't be asked, and is left alone for a while."""

    event: ClassVar[str] = "inquiry.paused"
    level: ClassVar[Level] = "warning"
    reason: str
    pause_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InquiriesResumed(Occurrence):
    """Prembly answers again."""

    event: ClassVar[str] = "inquiry.resumed"


# What is awaited


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingBegun(Occurrence):
    """Events came while nothing was awaited, and are not settled yet: Prembly is asked."""

    event: ClassVar[str] = "pending.begun"
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSettled(Occurrence):
    """What became of a verification was found by asking, or in the record before it was asked."""

    event: ClassVar[str] = "pending.settled"
    event_id: int
    settled_by: int
    reference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingGivenUp(Occurrence):
    """What became of a verification was not to be found out."""

    event: ClassVar[str] = "pending.given_up"
    level: ClassVar[Level] = "warning"
    event_id: int
    reference: str | None
    ask_count: int
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingFailed(Occurrence):
    """Asking about what is awaited raised, by a fault of ours."""

    event: ClassVar[str] = "pending.failed"
    level: ClassVar[Level] = "error"
    cause: BaseException
