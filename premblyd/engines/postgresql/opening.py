"""Connecting to PostgreSQL, and making its schema."""

import contextlib
from collections.abc import Callable
from typing import Any

import psycopg
from peewee import PostgresqlDatabase
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.string import StrDumperUnknown

from premblyd.databases import Server
from premblyd.engines.postgresql.deadline import bounded
from premblyd.engines.postgresql.failures import translated
from premblyd.engines.postgresql.schema import check_schema, migrate
from premblyd.errors import CannotStartError, LacksRightsError, StoreUnreadableError, without_frames

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
    "client_min_messages": "warning",  # a COMMIT that no standby has is told by one
    "statement_timeout": "0",  # the engine has a deadline of its own; a migration takes its time
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


class _Database(PostgresqlDatabase):
    """A database whose connections have this module's settings. `opened` gets each at once."""

    def __init__(self, server: Server, session: dict[str, str], opened: Opened | None) -> None:
        # Peewee passes an empty URL on, and the parameters beside it.
        super().__init__("postgresql://", prefer_psycopg3=True, **parameters(server))
        self._session = session
        self._unread = server.unread
        self._opened = opened

    def _connect(self) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any]
        try:
            connection = super()._connect()  # type: ignore[misc]
        except psycopg.Error as error:
            if self._unread is not None and getattr(error.pgconn, "needs_password", False):
                raise LacksRightsError(
                    f"The database wants a password, and this user may not read it"
                    f" ({self._unread}). Root may."
                ) from None
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
        except BaseException:
            connection.close()
            raise
        return connection


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


def connect(server: Server, opened: Opened | None = None, /, **session: str) -> PostgresqlDatabase:
    """Return a database that reads and writes; its connection is opened on first use. `opened` gets
    each new connection before anything is done with it. `session`: settings besides SESSION."""
    return _Database(server, SESSION | WRITING | session, opened)


def connect_read_only(server: Server) -> PostgresqlDatabase:
    """Return a database that only reads. Raise StoreUnreadableError when it can't be read."""
    return _checked(_Database(server, SESSION | READ_ONLY, None), server)


def connect_operator(server: Server) -> PostgresqlDatabase:
    """Return a database on which a command writes while daemons run. Raise StoreUnreadableError
    when it can't be used."""
    return _checked(connect(server), server)


def _checked(database: PostgresqlDatabase, server: Server) -> PostgresqlDatabase:
    with translated(StoreUnreadableError):
        connection = database.connection()
    with bounded(connection, CONNECT_TIMEOUT_S):
        check_schema(database, str(server))
    return database


def prepare(server: Server) -> list[str]:
    """Make or migrate the schema; return the migrations applied now. Raise as
    `engines.engine.Backend.prepare`."""
    with contextlib.closing(connect(server)) as database:
        return migrate(database, str(server))
