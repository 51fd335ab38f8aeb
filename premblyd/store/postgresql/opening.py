"""Connecting to PostgreSQL, and making its schema."""

import contextlib
from typing import Any

import psycopg
from peewee import PostgresqlDatabase
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.string import StrDumperUnknown

from premblyd.databases import Server
from premblyd.store.postgresql.schema import check_schema, migrate

CONNECT_TIMEOUT_S = 5
# Of every connection. A session that lost its client must not hold its locks: the other hosts wait
# for them.
SESSION = {
    "idle_in_transaction_session_timeout": "10s",
    "jit": "off",  # compiling takes 100 ms, and the statements are short
    "lock_timeout": "5s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "timezone": "UTC",
}
READ_ONLY = {"default_transaction_read_only": "on"}


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
    """A database whose connections have this module's settings."""

    def __init__(self, server: Server, session: dict[str, str]) -> None:
        url = "postgresql://" + server.url.partition("://")[2]
        params: dict[str, Any] = {} if server.password is None else {"password": server.password}
        if "connect_timeout" not in url:
            params["connect_timeout"] = str(CONNECT_TIMEOUT_S)
        super().__init__(url, prefer_psycopg3=True, application_name="premblyd", **params)
        self._session = session

    def _connect(self) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] = super()._connect()  # type: ignore[misc]
        try:
            connection.adapters.register_dumper(str, _TextDumper)
            connection.adapters.register_loader("numeric", _WholeLoader)
            connection.execute(
                "; ".join(f"SET {key} = '{value}'" for key, value in self._session.items())
            )
        except BaseException:
            connection.close()
            raise
        return connection


def connect(server: Server, **session: str) -> PostgresqlDatabase:
    """Return a database that reads and writes; its connection is opened on first use."""
    return _Database(server, SESSION | session)


def connect_read_only(server: Server) -> PostgresqlDatabase:
    """Return a database that only reads. Raise StoreUnreadableError when it can't be read."""
    return _checked(connect(server, **READ_ONLY), server)


def connect_operator(server: Server) -> PostgresqlDatabase:
    """Return a database on which a command writes while daemons run. Raise StoreUnreadableError
    when it can't be used."""
    return _checked(connect(server), server)


def _checked(database: PostgresqlDatabase, server: Server) -> PostgresqlDatabase:
    check_schema(database, str(server))
    return database


def prepare(server: Server) -> list[str]:
    """Make or migrate the schema; return the migrations applied now. Raise as
    `store.engine.Backend.prepare`."""
    with contextlib.closing(connect(server)) as database:
        return migrate(database, str(server))
