"""The database as another connection sees it, of whichever engine; and new ones for tests.

A session's tests run on the engine that pytest's `--engine` names.
"""

import atexit
import functools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg.rows import tuple_row

from premblyd.ground.databases import DatabaseAddress, EncryptedFile, file_of, key_of
from premblyd.store.columns import Kept, emptied
from premblyd.store.connections import backend
from premblyd.store.schema import KEY_BYTES
from premblyd.store.sqlite import connecting
from premblyd.store.tables import Event
from tests.support import postgresql
from tests.support.needs import needs_machine
from tests.support.waiting import FOREVER_S

ENGINES = ("sqlite", "sqlcipher", "postgresql")
KEY = "c0ffee" * 10 + "abcd"  # of every encrypted database here
# With a random one, other keys share a lock each time. Not that of tests.support.postgresql: what
# is copied from one to the other brings its key along.
DIGEST_KEY = b"of the tests on SQLite".ljust(KEY_BYTES)
_CHOSEN = "PREMBLYD_TEST_ENGINE"  # a variable: what a test starts in other processes may ask too


def choose_engine(name: str) -> None:
    """Have this session's databases be of an engine."""
    os.environ[_CHOSEN] = name


def is_on_postgresql() -> bool:
    return os.environ.get(_CHOSEN) == "postgresql"


def new_place(folder: Path, *, template: str | None = None) -> DatabaseAddress:
    """Make a prepared database for a test, or on a server a copy of `template`, and return where.
    What is in the folder already is left as it is."""
    if is_on_postgresql():
        with needs_machine():
            cluster, prepared = postgresql.of_session()
        return postgresql.new_database(cluster, template or prepared)
    place = file_in(folder, is_encrypted=os.environ.get(_CHOSEN) == "sqlcipher")
    path = file_of(place)
    if template is None and path and not path.exists():
        shutil.copy(prepared_file(is_encrypted=key_of(place) is not None), path)
    return place


def file_in(folder: Path, *, is_encrypted: bool) -> Path | EncryptedFile:
    """Return where a folder has its database, with its key where it is encrypted."""
    path, key_path = folder / "premblyd.db", folder / "database.key"
    if not is_encrypted:
        return path
    key_path.write_text(f"{KEY}\n")
    return EncryptedFile(path, key_path)


@functools.cache
def prepared_file(*, is_encrypted: bool = False) -> Path:
    """A prepared SQLite database, to be copied: that takes less time than to make one."""
    folder = Path(tempfile.mkdtemp(prefix="premblyd-prepared-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    place = file_in(folder, is_encrypted=is_encrypted)
    backend(place).prepare()
    with changing(place) as connection:
        connection.execute("UPDATE record SET digest_key = ?", [DIGEST_KEY])
    return folder / "premblyd.db"


def connect_file(place: DatabaseAddress, mode: str = "rw", **options: Any) -> sqlite3.Connection:
    """Return a connection to a SQLite file as any program has it that knows its key."""
    path = file_of(place) or Path()
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return connecting.connect(uri, [KEY] if key_of(place) else None, timeout=FOREVER_S, **options)


def server_of(place: DatabaseAddress) -> str | None:
    """Return the URL of a database on a server; None: it is a file."""
    return getattr(place, "url", None)


def url_of(place: DatabaseAddress) -> str:
    """Return a database as a configuration beside it names it."""
    return server_of(place) or f"sqlite:///{(file_of(place) or Path()).name}"


def settings_of(place: DatabaseAddress) -> dict[str, Any]:
    """Return what a configuration beside a database says of it."""
    key_path = key_of(place)
    encryption = {"encryption": {"key": {"file": key_path.name}}} if key_path else {}
    return {"database": url_of(place), **encryption}


class Connection(Protocol):
    """What tests need of a connection of either engine. A `?` stands for a value."""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Any: ...


class _PostgresqlConnection:
    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Any:
        text = sql.replace("%", "%%").replace("?", "%s") if values else sql
        return self._connection.execute(text.encode(), list(values) or None)


@contextmanager
def reading(place: DatabaseAddress) -> Iterator[Connection]:
    """Open the database as anyone may who reads it."""
    if url := server_of(place):
        with psycopg.connect(url, autocommit=True, row_factory=tuple_row) as connection:
            yield _PostgresqlConnection(connection)
        return
    with closing(connect_file(place, "ro")) as sqlite:
        yield sqlite


@contextmanager
def past_checks(sqlite: sqlite3.Connection) -> Iterator[None]:
    """Let a connection write what the tables' checks refuse."""
    sqlite.execute("PRAGMA ignore_check_constraints = on")
    yield


@contextmanager
def changing(place: DatabaseAddress, *, unchecked: bool = False) -> Iterator[Connection]:
    """Open the database as a person does who changes it by hand, and commit at the end.
    `unchecked`: without what the tables check, where the engine can be told so."""
    if url := server_of(place):
        with psycopg.connect(url) as connection:
            if unchecked:
                connection.execute("SET session_replication_role = replica")
            yield _PostgresqlConnection(connection)
        return
    with (
        closing(connect_file(place, isolation_level="")) as sqlite,
        sqlite,
        past_checks(sqlite) if unchecked else nullcontext(),
    ):
        yield sqlite


def removal(removed_parts: str, event_id: int = 1) -> str:
    """Return the statement that takes these parts of an event, as `retention` and `erase` do."""
    kept = (Kept.BODY,) if removed_parts == "body" else (Kept.BODY, Kept.IDENTITY)
    gone = emptied(Event, *kept) | {"removed_parts": removed_parts}
    values = [f"{name} = {'NULL' if new is None else repr(new)}" for name, new in gone.items()]
    return f"UPDATE event SET {', '.join(values)} WHERE id = {event_id}"


def by_hand(place: DatabaseAddress, sql: str, *values: Any, unchecked: bool = False) -> None:
    """Change the database so, as `changing` does."""
    with changing(place, unchecked=unchecked) as connection:
        connection.execute(sql, values)


def rows(place: DatabaseAddress, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return what another connection sees of the database."""
    with reading(place) as connection:
        found: list[tuple[Any, ...]] = connection.execute(sql, values).fetchall()
        return found


class Looking:
    """What another connection sees of a database again and again, and on SQLite the same one: to
    open one takes a millisecond there, for SQLite reads all of the schema then."""

    def __init__(self, place: DatabaseAddress) -> None:
        self._place = place
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._is_closed = False

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what is in the database that is at the place now."""
        if server_of(self._place) or self._is_closed:
            return rows(self._place, sql, *values)
        found = (file_of(self._place) or Path()).stat()
        if self._file != (found.st_dev, found.st_ino):
            self._let_go()
            self._connection = connect_file(self._place, "ro")
            self._file = found.st_dev, found.st_ino
        assert self._connection is not None
        return self._connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Before others do: who closes an SQLite database last puts its log into its file."""
        self._is_closed = True
        self._let_go()

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._file = None


@contextmanager
def locked(place: DatabaseAddress) -> Iterator[Connection]:
    """Let nobody else write into the database, by a connection that may write meanwhile."""
    if url := server_of(place):
        with psycopg.connect(url, autocommit=True) as server:
            server.execute("BEGIN")
            for (table,) in server.execute(_TABLES).fetchall():
                server.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
            yield _PostgresqlConnection(server)
        return
    with closing(connect_file(place, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


@contextmanager
def away(place: DatabaseAddress) -> Iterator[None]:
    """Take the database away for a while: its file, or its server's connections."""
    url = server_of(place)
    if url is None:
        path = file_of(place) or Path()
        moved = path.rename(path.with_name("away"))
        yield
        moved.rename(path)
        return
    name = url.partition("@/")[2].partition("?")[0]
    cluster, _ = postgresql.of_session()
    with cluster.connect() as server:
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        server.execute(_END_CONNECTIONS, [name])
        yield
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
_END_CONNECTIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
