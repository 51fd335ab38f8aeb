"""PostgreSQL's failures as our own errors, in words.

Its messages quote values, which may be personal: of them none is shown, save what libpq says of a
connection that it could not make.
"""

import contextlib
import re
from collections.abc import Iterator

import psycopg
from peewee import PeeweeException

from premblyd.ground.errors import (
    NotGrantedError,
    OtherUserError,
    PremblydError,
    StoreUnavailableError,
    StoreUnreadableError,
)


@contextlib.contextmanager
def translated(to: type[StoreUnavailableError] = StoreUnavailableError) -> Iterator[None]:
    """Turn a database's failure into a StoreUnavailableError, and a right that is missing into a
    NotGrantedError."""
    try:
        yield
    except (psycopg.Error, PeeweeException) as error:
        ours = as_ours(error, to)
        if ours is None:
            raise
        raise ours from None


def as_ours(error: Exception, to: type[StoreUnavailableError]) -> PremblydError | None:
    """Return the error of ours for a failure; None: PostgreSQL has nothing to do with it."""
    cause = drivers_error(error)
    if not isinstance(cause, psycopg.Error):
        return None
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        return NotGrantedError(_not_granted(cause))
    reason = plain(error)
    if issubclass(to, StoreUnreadableError) and (refused := _OTHER_USER.search(reason)):
        return OtherUserError(reason, role=refused["role"])
    return to(reason, says_all=reason.startswith((_UNREACHED, _REFUSED)))


def plain(error: BaseException) -> str:
    """Return what went wrong, in words for people."""
    cause = drivers_error(error)
    if not isinstance(cause, psycopg.Error):
        return type(cause).__name__
    if cause.sqlstate is None:
        return _of_connection(cause)
    return _PLAIN.get(cause.sqlstate, f"PostgreSQL says {type(cause).__name__} ({cause.sqlstate})")


def _not_granted(error: psycopg.Error) -> str:
    """Return what the role may not do. PostgreSQL names the table and no value."""
    found = re.search(
        r"(table|sequence|view|schema|function) \w+", error.diag.message_primary or ""
    )
    what = found[0] if found else "what this needs"
    return (
        f"PostgreSQL refuses it: this role lacks a right on {what}. Use a role that has it; the"
        " page on several hosts lists the grants."
    )


def drivers_error(error: BaseException) -> BaseException:
    """Return the driver's own error, which Peewee wraps: twice, when a query had to connect."""
    while isinstance(error, PeeweeException):
        wrapped = getattr(error, "orig", None)
        if not isinstance(wrapped, Exception):
            break
        error = wrapped
    return error


def _of_connection(error: psycopg.Error) -> str:
    """Return what libpq says of a connection that it could not make: it names hosts, users and
    files, and no values. What it and its driver say of one that was lost is for programmers."""
    if not isinstance(error, psycopg.OperationalError):
        return f"PostgreSQL's driver says {type(error).__name__}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Of several hosts psycopg lists what happened with each.
    each = [line.removeprefix("- ") for line in lines if line.startswith("- host: ")]
    said = "; ".join(each or lines[:1])
    if not _NOT_MADE.match(lines[0] if lines else ""):
        return f"{_UNREACHED}the connection was lost"
    is_refused = all(_ANSWERED.search(line) for line in each or lines[:1])
    notes = "".join(f". {note}" for note in getattr(error, "__notes__", ()))
    return f"{_REFUSED if is_refused else _UNREACHED}{_FAILED.sub('', said)}{notes}"


_UNREACHED = "PostgreSQL can't be reached: "
_REFUSED = "PostgreSQL refuses the connection: "
_FAILED = re.compile("^connection (failed|is bad): ")
_NOT_MADE = re.compile(
    "connection (failed|is bad|timeout expired)|failed to resolve|(cannot|could not) match"
)
# What the server itself said, or wanted. (Of a connection that failed libpq tells no code.)
_ANSWERED = re.compile(r"FATAL: |no password supplied")
# By pg_hba.conf's methods peer and ident: who asks is another user of the system than the role's.
_OTHER_USER = re.compile(r'(Peer|Ident) authentication failed for user "(?P<role>[^"]+)"')
_MISSING = (
    "a table of the database is missing or was changed; restore it, or start the daemon again"
)
_PLAIN = {
    "0A000": "somebody changes the tables",
    "25P03": "PostgreSQL waited too long for this host within a transaction",
    "3F000": _MISSING,
    "42703": _MISSING,
    "42883": _MISSING,
    "42P01": _MISSING,
    "25006": "the PostgreSQL server only reads now: it may be a standby",
    "40001": "PostgreSQL found a conflict with another host's transaction",
    "40P01": "PostgreSQL found a conflict with another host's transaction",
    "42501": "the role lacks a right on the tables; the page on several hosts lists the grants",
    "53100": "the disk of the PostgreSQL server is full",
    "53300": "PostgreSQL has no connection left (max_connections)",
    "55P03": "another transaction holds a lock for too long",
    "57014": "PostgreSQL took too long, and was stopped",
    "57P01": "PostgreSQL shuts down, or somebody ended the connection",
    "57P02": "PostgreSQL crashed",
    "57P03": "PostgreSQL starts up or shuts down",
}
