"""What can happen when the daemon tells people of trouble."""

from dataclasses import dataclass
from typing import ClassVar

from premblyd.logs.lines import Level
from premblyd.occurrences.base import Occurrence


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSent(Occurrence):
    """An alert's hook has told people of trouble."""

    event: ClassVar[str] = "alert.sent"
    level: ClassVar[Level] = "warning"
    alert: str
    kinds: list[str]
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFailed(Occurrence):
    """An alert's hook failed, so nobody was told. It is run again after a minute."""

    event: ClassVar[str] = "alert.failed"
    level: ClassVar[Level] = "error"
    alert: str
    kinds: list[str]
    outcome: str
    exit_code: int | None
    http_status: int | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsFailed(Occurrence):
    """A look for trouble raised, by a fault of ours."""

    event: ClassVar[str] = "alert.look_failed"
    level: ClassVar[Level] = "error"
    cause: BaseException
