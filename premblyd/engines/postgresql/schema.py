"""The schema on PostgreSQL: which migrations it has, and bringing it up to this program's."""

import contextlib
import time
from collections.abc import Callable, Iterator

import psycopg
from peewee import PeeweeException
from psycopg import errors, sql

from premblyd.databases import Server
from premblyd.engines.engine import Database
from premblyd.engines.postgresql.beacon import LOOK_S, living
from premblyd.engines.postgresql.failures import drivers_error, translated
from premblyd.engines.postgresql.opening import CONNECT_TIMEOUT_S, bounded, connect, reading
from premblyd.engines.postgresql.transaction import (
    NOW_MS,
    Connection,
    PostgresqlTransaction,
    lock_number,
)
from premblyd.errors import (
    MoveAtWorkError,
    OlderDaemonsError,
    PremblydError,
    SchemaError,
    StoreUnreadableError,
)
from premblyd.model.history import LOCK, MOVE, History
from premblyd.model.states import LOST
from premblyd.model.tables import Host

# Who waits for a table keeps all waiting who come later, webhooks too. So a migration waits only
# for so long, then lets them pass, and tries again.
TABLE_WAIT = "2s"
TRIES = 20
PAUSE_S = 1.0
KILLED_S = 5.0  # so long the session of a move that was killed may still have its lock
_IN_THE_WAY = (errors.LockNotAvailable, errors.DeadlockDetected)
# Whose the tables are, or are to be, where that is another role, of which this one is a member.
_OWNER = """
WITH owner AS (
    SELECT COALESCE(
        (SELECT relowner FROM pg_class WHERE oid = to_regclass('schema_migration')),
        (SELECT datdba FROM pg_database WHERE datname = current_database())
    ) AS oid
)
SELECT rolname FROM owner JOIN pg_roles USING (oid)
WHERE rolname <> current_user AND pg_has_role(oid, 'MEMBER')
"""
_END_ALL = f"""
UPDATE host SET ended = '{LOST}', ended_at_ms = {NOW_MS} WHERE ended_at_ms IS NULL
"""  # noqa: S608 (constants)
# Where the tables are that this role finds, and where it would make new ones, if not there.
_ELSEWHERE = """
SELECT nspname, current_schema() FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = to_regclass('schema_migration') AND nspname <> current_schema()
"""


def prepare(server: Server, check: Callable[[Database], None] = lambda _: None) -> list[str]:
    """Make the schema, or apply what it lacks; return which migrations these were. `check` looks at
    the database before anything is changed.

    Raise SchemaError when a newer premblyd wrote it, OlderDaemonsError when daemons work on it that
    would not survive it, MoveAtWorkError when it is being moved, StoreUnavailableError when it
    can't be migrated.
    """
    name = str(server)
    with translated(), contextlib.closing(connect(server)) as database:
        connection: Connection = database.connection()
        with _alone(connection):
            _require_no_move(connection, name)
            history = _usable(database, name)
            check(database)
            # Each daemon that has worked on a server had a row of its own. Without the table the
            # schema is new, or half made by who was killed then.
            if (incompatible := history.incompatible()) and database.table_exists(Host):
                _require_no_daemon(connection, name, incompatible)
            if history.pending:
                become_owner(connection)
            return _apply(history, connection)


def require_usable(server: Server, check: Callable[[Database], None]) -> None:
    """Look as `prepare` does whether this program can work on the schema, and change nothing.
    Raise SchemaError when it can't, and what `check` raises."""
    with (
        translated(StoreUnreadableError),
        contextlib.closing(reading(server)) as database,
        bounded(database.connection(), CONNECT_TIMEOUT_S),
    ):
        _usable(database, str(server))
        check(database)


def connect_read_only(server: Server) -> Database:
    """Return a database that only reads. Raise SchemaError when this program can't work on its
    schema, StoreUnreadableError when it can't be read."""
    return _checked(reading(server), server)


def connect_operator(server: Server) -> Database:
    """Return a database on which a command writes while daemons run. Raise as
    `connect_read_only`."""
    return _checked(connect(server), server)


def _checked(database: Database, server: Server) -> Database:
    try:
        with (
            translated(StoreUnreadableError),
            bounded(database.connection(), CONNECT_TIMEOUT_S),
        ):
            history = _usable(database, str(server))
        if history.pending:
            raise SchemaError(
                f"{server} is older than this premblyd, or empty. Start the daemon once: it"
                " migrates."
            )
    except PremblydError:
        database.close()
        raise
    return database


@contextlib.contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Keep out other programs that migrate, and daemons that begin to work, as long as it takes."""
    connection.execute("SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0")
    # Asked for again and again: a statement that waits for it has a snapshot, for whose end CREATE
    # INDEX CONCURRENTLY waits in the program that migrates.
    while not _has_lock(connection, LOCK):
        time.sleep(LOOK_S)
    try:
        yield
    finally:
        with contextlib.suppress(psycopg.Error):  # of a connection that is gone
            connection.execute("SELECT pg_advisory_unlock(%s)", [lock_number(LOCK)])


def begin_move(connection: Connection, name: str) -> None:
    """Keep daemons from starting to work on the database, until `end_move`. Those that have begun
    have a row in `host` by now. Raise MoveAtWorkError when it is moved already."""
    until_s = time.monotonic() + KILLED_S
    while not _begins_move(connection):
        if time.monotonic() > until_s:
            raise MoveAtWorkError(name)
        time.sleep(LOOK_S)


def end_move(connection: Connection) -> None:
    """Let daemons start now. The server notices after a while that a connection was closed, and
    would refuse a daemon until then."""
    with contextlib.suppress(psycopg.Error):  # of one that is gone, or was left amid a COPY
        connection.rollback()
        connection.execute("SELECT pg_advisory_unlock(%s)", [lock_number(MOVE)])


def _begins_move(connection: Connection) -> bool:
    with connection.transaction():
        PostgresqlTransaction(connection).lock([LOCK])
        return _has_lock(connection, MOVE)


def _has_lock(connection: Connection, lock: str) -> bool:
    """Take a lock until the connection is closed, unless another has it. Return whether it is
    taken."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [lock_number(lock)]).fetchone()
    return row == (True,)


def _require_no_move(connection: Connection, name: str) -> None:
    """Raise MoveAtWorkError when `premblyd move` is at work on the database."""
    with connection.transaction():
        if not PostgresqlTransaction(connection).try_lock(MOVE):
            raise MoveAtWorkError(name)


def _require_one_place(connection: Connection, name: str) -> None:
    """Raise SchemaError when the tables are in a schema before which another one was put: a second
    record would begin there, and all daemons would go over to it at once."""
    if (row := connection.execute(_ELSEWHERE).fetchone()) is not None:
        raise SchemaError(
            f"{name} has its tables in the schema {row[0]}, but {row[1]} is before it in the"
            " search_path of this role. Write the schema into `database`:"
            f" ?options=-csearch_path%3D{row[0]}"
        )


def _usable(database: Database, name: str) -> History:
    """Return the history of a schema on which this program can work. Raise SchemaError."""
    _require_one_place(database.connection(), name)
    history = History(database)
    if not history.can_work:
        raise SchemaError(
            f"{name} was written by a newer premblyd (it knows {', '.join(history.newer)})."
            " Install that version."
        )
    return history


def _require_no_daemon(connection: Connection, name: str, incompatible: list[str]) -> None:
    """Raise OlderDaemonsError while a daemon works on the database. End all others for good: one
    that comes back nevertheless finds that it has ended, and looks whether it can go on."""
    if daemons := living(connection):
        named = ", ".join(
            f"{daemon.name} (process {daemon.pid}, premblyd {daemon.version})" for daemon in daemons
        )
        raise OlderDaemonsError(
            f"This premblyd must change {name} ({', '.join(incompatible)}) in a way that older"
            f" daemons don't survive, and these work on it: {named}. Stop each on its"
            " host: sudo systemctl stop premblyd.socket premblyd.service. Then start this one"
            " again, or run install.sh again."
        )
    connection.execute(_END_ALL)


def become_owner(connection: Connection) -> None:
    """Change the tables as the role that owns them: the daemon's own need not be able to."""
    for (owner,) in connection.execute(_OWNER).fetchall():
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))


def _apply(history: History, connection: Connection) -> list[str]:
    applied: list[str] = []
    for number in range(1, TRIES + 1):
        try:
            while history.pending:
                wait = "0" if history.next_runs_beside_others else TABLE_WAIT
                connection.execute(f"SET lock_timeout = '{wait}'")
                applied.append(history.apply_next())
        except PeeweeException as error:
            if number == TRIES or not isinstance(drivers_error(error), _IN_THE_WAY):
                raise
            time.sleep(PAUSE_S)
    return applied
