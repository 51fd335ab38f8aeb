"""Connecting to PostgreSQL, with a limit for how long a connection may keep its thread waiting; and
what fails there as our own errors, in words.

No setting of PostgreSQL's own bounds a COMMIT that waits for a standby, and to cancel it would be
worse: the server then reports success, with a warning. So the socket is shut down, from another
thread. Whoever waits on it sees a lost connection, which is no promise of anything.

PostgreSQL's messages quote values, which may be personal: of them none is shown, save what libpq
says of a connection that it could not make.
"""

import contextlib
import os
import re
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import psycopg
from peewee import PeeweeException, PostgresqlDatabase
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.string import StrDumperUnknown

from premblyd.features.postgresql.settings import Server
from premblyd.features.postgresql.sharedclock import SharedClock
from premblyd.features.postgresql.transaction import NOW_MS, look, run
from premblyd.ground.errors import (
    CannotStartError,
    PremblydError,
    StoreUnavailableError,
    StoreUnreadableError,
    without_frames,
)
from premblyd.ground.times import Clock
from premblyd.store.engine import Database, Done, Transaction, query_failed


class NotGrantedError(PremblydError):
    """The role with which premblyd connects to PostgreSQL lacks a right. Use another role, or grant
    it."""


class Deadline:
    """Bounds what is done while it is entered. One thread enters it, as often as it likes."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.is_over = False
        self._began_at: float | None = None
        self._copy: SocketCopy | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="premblyd-deadline", daemon=True)

    def __enter__(self) -> Self:
        if not self._thread.is_alive():
            self._thread.start()
        self.is_over = False
        self._began_at = time.monotonic()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        with self._lock:
            self._began_at = None

    def watch(self, connection: "psycopg.Connection[Any]") -> None:
        """Shut down this connection's socket after the time limit."""
        self.forget()
        with self._lock:
            self._copy = SocketCopy(connection)

    def forget(self) -> None:
        """Watch no connection any more."""
        with self._lock:
            if self._copy is not None:
                self._copy.close()
            self._copy = None

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self.forget()

    def _run(self) -> None:
        while not self._closing.wait(self.limit_s / 10):
            with self._lock:
                began_at = self._began_at
                if began_at is not None and time.monotonic() - began_at > self.limit_s * 0.9:
                    self.is_over = True
                    if self._copy is not None:
                        self._copy.shut_down()


@contextlib.contextmanager
def bounded(connection: "psycopg.Connection[Any]", limit_s: float) -> Iterator[None]:
    """Shut down the connection's socket unless what is done within ends in time. It starts a
    thread, so it is for what is done rarely."""
    copy = SocketCopy(connection)
    timer = threading.Timer(limit_s, copy.shut_down)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        copy.close()


class SocketCopy:
    """A connection's socket under a descriptor of its own, so that another thread can shut it down
    at any moment: libpq may close its own, and another file get that number."""

    def __init__(
        self, connection: "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]"
    ) -> None:
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    def shut_down(self) -> None:
        """Have both ends see the end of the connection now."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the socket, even if it is in use."""
        self._socket.close()


CONNECT_TIMEOUT_S = 5
CONNECT_TIMEOUT_EACH_S = 3  # of several hosts, which are tried one after the other
# Of every connection. A session that lost its client must not hold its locks: the other hosts wait
# for them. It may be idle in a transaction, or wait for the client that is gone to take rows. What
# it runs itself is bounded by _CHECK_CLIENT.
SESSION = {
    "idle_in_transaction_session_timeout": "4s",  # less than others wait for its locks
    "jit": "off",  # compiling takes 100 ms, and the statements are short
    "lock_timeout": "5s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
    "timezone": "UTC",
    "client_encoding": "UTF8",
}
READ_ONLY = {
    "default_transaction_read_only": "on",
    # psycopg prepares what is asked often, and a plan that is kept for all values looks through the
    # whole table for a rare one: 450 ms beside a million events, where its index takes 1 ms.
    "plan_cache_mode": "force_custom_plan",
}
# Of those that write, whatever a role or a database is set to. Locks keep order between hosts, and
# what is read after one must be what is there then, not what was there when the wait for it began.
WRITING = {
    "default_transaction_isolation": "read committed",
    "client_min_messages": "warning",  # one says that no standby has a COMMIT
    "statement_timeout": "0",  # the engine has a deadline of its own
}
# `off` would have a COMMIT return before it is on the disk. The other levels are the operator's.
_KEEP_COMMITS = """SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off'"""
# Not everywhere a server can notice it; it refuses the setting there.
_CHECK_CLIENT = """SELECT set_config('client_connection_check_interval', '2s', false)
    WHERE version() LIKE '%linux%'"""
# The same of the client's side, where the operator's URL does not say it.
_OF_LIBPQ = {
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",  # ms
    "application_name": "premblyd",
}
Opened = Callable[[psycopg.Connection[Any]], None]


class _TextDumper(StrDumperUnknown):
    """Writes texts as PostgreSQL can hold them: it has no NUL in a text."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in obj else obj)


class _WholeLoader(Loader):
    """Reads sums of whole numbers, which PostgreSQL makes of a wider type, as whole numbers."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdecimal() else float(text)


class _Database(Database, PostgresqlDatabase):
    """A database whose connections have this module's settings. `opened` gets each at once."""

    def __init__(self, server: Server, session: dict[str, str], opened: Opened | None) -> None:
        # Peewee passes an empty URL on, and the parameters beside it.
        super().__init__("postgresql://", prefer_psycopg3=True, **parameters(server))
        self._session = session
        self._opened = opened

    def _connect(self) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any]
        try:
            connection = super()._connect()  # type: ignore[misc]
        except psycopg.Error as error:
            # psycopg's own frame refers to it: with that, the webhooks that were to be stored would
            # stay in memory until the collector comes.
            raise without_frames(error) from None
        try:
            if self._opened is not None:
                self._opened(connection)
            connection.adapters.register_dumper(str, _TextDumper)
            connection.adapters.register_loader("numeric", _WholeLoader)
            settings = [f"SET {key} = '{value}'" for key, value in self._session.items()]
            with bounded(connection, CONNECT_TIMEOUT_S):
                connection.execute("; ".join([*settings, _KEEP_COMMITS, _CHECK_CLIENT]))
        except BaseException:  # also a cancellation: nobody else knows of this connection
            connection.close()
            raise
        return connection

    def table_exists(self, table_name: str, schema: str | None = None) -> bool:
        """Return whether statements find it: in whichever schema, so that one that somebody puts
        before begins no second record."""
        [(found,)] = self.execute_sql("SELECT to_regclass(%s) IS NOT NULL", [table_name])
        return bool(found)

    def transact(self, work: Callable[[Transaction], Done], *, alone: bool = False) -> Done:
        with translated():
            return run(self.connection(), work, self.digest_key, alone=alone)

    def look(self, work: Callable[[Transaction], Done]) -> Done:
        with translated(StoreUnreadableError):
            return look(self.connection(), work, self.digest_key)

    def clock(self) -> Clock:
        clock = SharedClock()
        asked_at_s = time.monotonic()
        with translated(StoreUnreadableError):
            [(now_ms,)] = self.execute_sql(f"SELECT {NOW_MS}")
        clock.follow(int(now_ms), asked_at_s, time.monotonic())
        return clock

    def ask(self, query: str, most: int) -> tuple[list[str], list[Any]]:
        """See Database. A cursor takes nothing but a question, and a prepared statement is one
        alone: `COMMIT` or `BEGIN READ WRITE` behind it would end what makes the connection only
        read."""
        connection = self.connection()
        try:
            connection.execute("BEGIN")
            connection.execute(f"DECLARE asked CURSOR FOR {query}".encode(), prepare=True)
            cursor = connection.execute(f"FETCH {most} FROM asked".encode())
            connection.execute("ROLLBACK")  # what was fetched is here
        except psycopg.Error as error:
            raise query_failed(error) from None
        return [column.name for column in cursor.description], cursor.fetchall()

    def interrupter(self) -> Callable[[], None]:
        """Return what ends whatever the connection does, without waiting. The server notices within
        seconds that nobody waits for it any more."""
        connection = self.connection()
        copy = SocketCopy(connection)
        weakref.finalize(connection, copy.close)
        return copy.shut_down


def parameters(server: Server) -> dict[str, Any]:
    """Return libpq's parameters for a server: what its URL says, and this module's defaults. Raise
    CannotStartError when the URL can't be used."""
    try:
        of_url = conninfo_to_dict("postgresql://" + server.url.partition("://")[2])
    except psycopg.Error as error:
        raise CannotStartError(f"`database` can't be used: {str(error).strip()}.") from None
    if "password" in of_url or "sslpassword" in of_url:
        raise CannotStartError("`database` holds a password: write `password:` beside its `url:`.")
    hosts = str(of_url.get("hostaddr") or of_url.get("host") or "").count(",") + 1
    timeout_s = CONNECT_TIMEOUT_S if hosts == 1 else CONNECT_TIMEOUT_EACH_S
    password = {} if server.password is None else {"password": server.password}
    return _OF_LIBPQ | {"connect_timeout": str(timeout_s)} | of_url | password


def reading(server: Server) -> Database:
    """Return a database that only reads; its connection is opened on first use."""
    return _Database(server, SESSION | READ_ONLY, None)


def connect(server: Server, opened: Opened | None = None, /, **session: str) -> Database:
    """Return a database that reads and writes; its connection is opened on first use. `opened` gets
    each new connection before anything is done with it. `session`: settings besides SESSION."""
    return _Database(server, SESSION | WRITING | session, opened)


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
    return to(plain(error))


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
    text = " ".join(str(error).split())
    if isinstance(error, psycopg.OperationalError) and _NOT_MADE.match(text):
        return f"{_UNREACHED}{text}"
    return f"{_UNREACHED}the connection was lost"


_UNREACHED = "PostgreSQL can't be reached: "
_NOT_MADE = re.compile(
    "connection (failed|is bad|timeout expired)|failed to resolve|(cannot|could not) match"
)
_PLAIN = {
    "25006": "the PostgreSQL server only reads now: it may be a standby",
    "42501": "the role lacks a right on the tables; the page on several hosts lists the grants",
    "53100": "the disk of the PostgreSQL server is full",
    "53300": "PostgreSQL has no connection left (max_connections)",
    "55P03": "another transaction holds a lock for too long",
    "57014": "PostgreSQL took too long, and was stopped",
    "57P01": "PostgreSQL shuts down, or somebody ended the connection",
    "57P02": "PostgreSQL crashed",
    "57P03": "PostgreSQL starts up or shuts down",
}
