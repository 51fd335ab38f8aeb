"""Every exception of premblyd, with the exit code a command ends with when it meets one.

Exit codes follow sysexits(3) where it has one: 75 EX_TEMPFAIL, 78 EX_CONFIG.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

E = TypeVar("E", bound=Exception)


class PremblydError(Exception):
    """Something premblyd can't do. The text says what happened and what to do about it."""

    exit_code = 1
    lacks_rights = False  # root can do it
    by_user: str | None = None  # the user of the system who can do it


class LacksRightsError(PremblydError):
    """This user may not do it. Root may, or a member of the group that the text names."""

    lacks_rights = True


class NotFoundError(PremblydError):
    """The record has no event or delivery of this name. The text says which was asked for."""


class TryAgainError(PremblydError):
    """It may work later as it is: the database is locked, or the daemon can't be reached."""

    exit_code = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a configuration file. `line` and `column` count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class ConfigError(PremblydError):
    """The configuration can't be used. Mend every listed problem; `premblyd check` shows them."""

    exit_code = 78

    def __init__(self, problems: Sequence[Problem], *, lacks_rights: bool = False) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
        self.lacks_rights = lacks_rights


class CannotStartError(PremblydError):
    """The daemon can't start, and trying again does not help: somebody must correct a right, a path
    or an address first."""

    exit_code = 78


class SchemaError(PremblydError):
    """The database has the tables of another build of premblyd, or none."""

    exit_code = 78


class AlreadyRunningError(PremblydError):
    """Another daemon holds the database's lock. Stop it, or give this one another database."""

    exit_code = 75


class StoreUnavailableError(TryAgainError):
    """The database could not commit: disk full, locked, read-only, damaged or removed.

    Nothing of the transaction was kept. `reason` is one of SQLite's constant texts; it never
    holds a value from a webhook.
    """

    problem = "The database could not commit: "

    def __init__(self, reason: str) -> None:
        super().__init__(f"{self.problem}{reason}")
        self.reason = reason


class ValueRefusedError(PremblydError):
    """A value breaks a rule of the tables. Nothing of the operation was kept."""


class TableUnavailableError(StoreUnavailableError):
    """The database works, and a table or a row of it can't be used now: somebody has locked it, or
    has taken a right on it. What needs others may be kept."""


class StoreUnreadableError(StoreUnavailableError):
    """The database could not be read: it is locked, damaged, closed to this user or no database."""

    problem = "The database could not be read: "


class SignatureError(PremblydError):
    """A request did not prove that it comes from Prembly. `reason` is for evidence, never for
    the answer: every refusal looks the same from outside."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def without_frames(error: E) -> E:
    """Return `error` without the frames that it and its cause came through. Who passes an error on
    as a value does this: the frames refer to the error again, and to the body that they worked
    on, so both would stay in memory until the collector looks for cycles."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
