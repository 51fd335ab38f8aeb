"""Which server has the database; and this host, for the others that share it."""

import re
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    Field,
    PlainValidator,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from premblyd.config.keys import Section
from premblyd.config.models import Config
from premblyd.config.secrets import Secret, read_secret, secret_places
from premblyd.config.values import DurationMs, Model, Name, at_least, sqlite_path
from premblyd.features.postgresql.sharedclock import SharedClock
from premblyd.ground.databases import OnServer
from premblyd.ground.times import Clock

POSTGRESQL = ("postgresql", "postgres")
# What libpq takes of a URL that names no secret of its own; `sslpassword` and `passfile` apart.
_PASSWORD_PARAMETER = re.compile(r"[?&](password|sslpassword)=", re.IGNORECASE)

_HAS_PORT = re.compile(r":[^\]]*$")


@dataclass(frozen=True, slots=True, repr=False)
class Server(OnServer):
    """A database on a PostgreSQL server, as a URL of libpq's that holds no password.

    `password` None: libpq finds it where it always does (PGPASSWORD, ~/.pgpass), or needs none.
    """

    url: str
    password: str | None = None

    def clock(self) -> Clock:
        return SharedClock()

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:  # a reload sees by it whether there is a password
        return f"Server{(self.url, self.password is not None)}"


def is_postgresql(text: str) -> bool:
    """Return whether a text is meant as the URL of a PostgreSQL database."""
    return text.partition("://")[0] in POSTGRESQL and "://" in text


def holds_password(url: str) -> bool:
    """Return whether a URL has a password in it, where lists of processes and files would show
    it. It may have one that is not written as a URL needs it, with a slash or a question mark: then
    a part of it stands where libpq looks for a port."""
    place = url.partition("://")[2].partition("?")[0]
    user_info, at, _ = place.rpartition("@")
    hosts = [] if at else place.partition("/")[0].split(",")
    ports = [host.rpartition("]")[2].rpartition(":")[2] for host in hosts if _HAS_PORT.search(host)]
    return (
        ":" in user_info
        or not all(port.isdecimal() for port in ports if port)
        or bool(_PASSWORD_PARAMETER.search(url))
    )


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
    """Read the password as a secret, also where secrets are not looked up, if this user may. Who
    may not may have another way in, by libpq's own means: then it stays unread there."""
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
        return Server(self.url, None if self.password is None else self.password.value)


def _database(
    value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
) -> Path | PostgresqlDatabase:
    if isinstance(value, Path | PostgresqlDatabase):
        return value
    if isinstance(value, dict):
        read: PostgresqlDatabase = handler(value)
        return read
    if is_postgresql(str(value)):
        return PostgresqlDatabase(url=_server_url(value))
    try:
        return sqlite_path(value, secret_places(info).folder)
    except ValueError as error:
        raise ValueError(f"{error} or postgresql://user@host/database") from None


# Only of a mapping pydantic reads the keys, so only that is its schema.
if TYPE_CHECKING:
    DatabaseValue = Path | PostgresqlDatabase
else:
    DatabaseValue = Annotated[PostgresqlDatabase, WrapValidator(_database)]


def server(settings: Config) -> Server | None:
    """Return the server that has the database, if one has."""
    value = settings.database_value
    return value.server if isinstance(value, PostgresqlDatabase) else None


def typed(text: str) -> Server | None:
    """Return the server of `--database`. Raise ValueError for a password: every user sees it in the
    list of processes."""
    if is_postgresql(text) and holds_password(text):
        raise ValueError("leave the password out: libpq takes it from PGPASSWORD or ~/.pgpass.")
    return Server(text) if is_postgresql(text) else None


class HostsSettings(Model):
    """This daemon's name for the other hosts, and after how long of silence they count it as
    lost."""

    name_value: Name | None = Field(None, alias="name")
    lost_after_ms: Annotated[DurationMs, at_least(500)] = Field(10_000, alias="lost_after")

    @property
    def name(self) -> str:
        """What people know this host by."""
        return self.name_value or socket.gethostname()


HOSTS = Section(
    "hosts",
    HostsSettings,
    HostsSettings(),
    only_at_start=lambda hosts: (hosts.name, hosts.lost_after_ms),
)
SECTIONS = (HOSTS,)
DATABASE_VALUES = (DatabaseValue,)
ADDRESSES, TYPED_ADDRESSES = (server,), (typed,)
