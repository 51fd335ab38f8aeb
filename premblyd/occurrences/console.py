"""What happens at the console."""

from dataclasses import dataclass
from typing import ClassVar

from premblyd.logs.lines import Level
from premblyd.occurrences.base import Occurrence


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleNotOpened(Occurrence):
    """The console can't listen. Webhooks are taken all the same."""

    event: ClassVar[str] = "console.not_opened"
    level: ClassVar[Level] = "error"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSignedIn(Occurrence):
    """Somebody has signed in to the console."""

    event: ClassVar[str] = "console.signed_in"
    session: int
    remote_ip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSignInFailed(Occurrence):
    """Somebody could not sign in: by a spent link, a wrong password, or after too many of them."""

    event: ClassVar[str] = "console.sign_in_failed"
    level: ClassVar[Level] = "warning"
    how: str
    remote_ip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleRefused(Occurrence):
    """The console refused a request: for its host, its origin or its form's token."""

    event: ClassVar[str] = "console.refused"
    level: ClassVar[Level] = "warning"
    reason: str
    remote_ip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleNotLogged(Occurrence):
    """More of these lines came in a minute than are written."""

    event: ClassVar[str] = "console.not_logged"
    level: ClassVar[Level] = "warning"
    kind: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleFailed(Occurrence):
    """A page of the console failed, by a fault of ours."""

    event: ClassVar[str] = "console.failed"
    level: ClassVar[Level] = "error"
    cause: BaseException
