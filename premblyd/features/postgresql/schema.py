"""The schema on PostgreSQL: making it, and which daemons may write meanwhile."""

import contextlib
import time
from collections.abc import Iterator

import psycopg
from psycopg import sql

from premblyd.features.postgresql import translation
from premblyd.features.postgresql.beacon import LOOK_S
from premblyd.features.postgresql.failures import translated
from premblyd.features.postgresql.opening import CONNECT_TIMEOUT_S, bounded, connect, reading
from premblyd.features.postgresql.transaction import Connection, PostgresqlTransaction, lock_number
from premblyd.ground.databases import Server
from premblyd.ground.errors import MoveAtWorkError, PremblydError, SchemaError, StoreUnreadableError
from premblyd.store import schema
from premblyd.store.engine import Database
from premblyd.store.schema import LOCK, MOVE

KILLED_S = 5.0  # so long the session of a move that was killed may still have its lock
# Whose the tables are, or are to be, where that is another role, of which this one is a member.
_OWNER = """
WITH owner AS (
    SELECT COALESCE(
        (SELECT relowner FROM pg_class WHERE oid = to_regclass('record')),
        (SELECT datdba FROM pg_database WHERE datname = current_database())
    ) AS oid
)
SELECT rolname FROM owner JOIN pg_roles USING (oid)
WHERE rolname <> current_user AND pg_has_role(oid, 'MEMBER')
"""
# Where the tables are that this role finds, and where it would make new ones, if not there.
_ELSEWHERE = """
SELECT nspname, current_schema() FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = to_regclass('record') AND nspname <> current_schema()
"""


def prepare(server: Server) -> bool:
    """Make what is missing of the schema; return whether the database is new.

    Raise SchemaError when another build of premblyd made it, MoveAtWorkError when it is being
    moved, StoreUnavailableError when it can't be made.
    """
    name = str(server)
    with translated(), contextlib.closing(connect(server)) as database:
        connection: Connection = database.connection()
        with _alone(connection):
            _require_no_move(connection, name)
            _require_one_place(connection, name)
            is_new = not schema.is_made(database)
            if lacking := schema.parts() if is_new else schema.lacking(database, name):
                become_owner(connection)
                with database.atomic():
                    schema.make(database, lacking, translation.statements)
            return is_new


def require_usable(server: Server) -> None:
    """Look as `prepare` does whether this program can work on the schema, and change nothing.
    Raise SchemaError when it can't."""
    with (
        translated(StoreUnreadableError),
        contextlib.closing(reading(server)) as database,
        bounded(database.connection(), CONNECT_TIMEOUT_S),
    ):
        _require_one_place(database.connection(), str(server))
        if schema.is_made(database):
            schema.lacking(database, str(server))


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
        with translated(StoreUnreadableError), bounded(database.connection(), CONNECT_TIMEOUT_S):
            _require_one_place(database.connection(), str(server))
            database.digest_key = schema.require_own(database, str(server))
    except PremblydError:
        database.close()
        raise
    return database


@contextlib.contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Keep out other programs that make the schema, and daemons that begin to work."""
    connection.execute("SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0")
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
    """Raise MoveAtWorkError when `premblyd record move` is at work on the database."""
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


def become_owner(connection: Connection) -> None:
    """Change the tables as the role that owns them: the daemon's own need not be able to."""
    for (owner,) in connection.execute(_OWNER).fetchall():
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
