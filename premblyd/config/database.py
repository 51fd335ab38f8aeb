"""`database`: a SQLite file, or a PostgreSQL server that several hosts may share (`hosts`)."""

import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    Field,
    PlainValidator,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from premblyd.config.secrets import Secret, read_secret, secret_places
from premblyd.config.values import DurationMs, Model, Name, sqlite_path
from premblyd.databases import Server, holds_password, is_postgresql


class HostsSettings(Model):
    """What the others know this daemon by, and how long one may be silent."""

    name_value: Name | None = Field(None, alias="name")
    lost_after_ms: DurationMs = Field(10_000, alias="lost_after", ge=500)

    @property
    def name(self) -> str:
        """What people know this host by."""
        return self.name_value or socket.gethostname()


_IN_THE_URL = (
    "a password in a URL can be read by all: write"
    " `database: {url: postgresql://…, password: {file: database-password}}`"
)


def _server_url(text: Any) -> str:
    """Read the URL of a PostgreSQL database, for libpq. Raise ValueError for anything else."""
    url = str(text)
    if not is_postgresql(url):
        raise ValueError("should be postgresql://user@host/database")
    if holds_password(url):
        raise ValueError(_IN_THE_URL)
    return url


def _password(value: Any, info: ValidationInfo) -> Secret:
    """Read the password as a secret. Who may not read it may have another way in, by libpq's own
    means, so where secrets are not looked up it may stay unread."""
    places = secret_places(info)
    try:
        return read_secret(value, replace(places, look_up=True))
    except ValueError:
        if places.look_up:
            raise
        return read_secret(value, places)


class PostgresqlDatabase(Model):
    """A database on a PostgreSQL server."""

    url: Annotated[str, PlainValidator(_server_url)]
    password: Annotated[Secret, PlainValidator(_password)] | None = None

    @property
    def server(self) -> Server:
        """What connects to it. Where secrets are not looked up, libpq may know the password."""
        password = self.password
        if password is None:
            return Server(self.url)
        return Server(
            self.url, password.value, unread=password.source if password.value is None else None
        )


def database(value: Any, folder: Path) -> Path | str:
    """Read `sqlite:///PATH` as a path, and `postgresql://…` as the URL that it is. Raise ValueError
    for anything else."""
    if isinstance(value, str) and is_postgresql(value):
        return _server_url(value)
    return sqlite_path(value, folder)


def _database(
    value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
) -> Path | PostgresqlDatabase:
    if isinstance(value, dict):
        read: PostgresqlDatabase = handler(value)
        return read
    if isinstance(value, Path | PostgresqlDatabase):
        return value
    found = database(value, secret_places(info).folder)
    return found if isinstance(found, Path) else PostgresqlDatabase(url=found)


# Only of a mapping pydantic reads the keys, so only that is its schema.
if TYPE_CHECKING:
    DatabaseValue = Path | PostgresqlDatabase
else:
    DatabaseValue = Annotated[PostgresqlDatabase, WrapValidator(_database)]
