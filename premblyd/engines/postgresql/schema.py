"""The schema on PostgreSQL: which migrations it has, bringing it up to this program's, and which
daemons work on it meanwhile: that is told by their beats, no clock is believed.

A daemon that was killed leaves its row as one that lives has it, so each is watched for as long as
it takes to see it beat: three beats, within bounds. Hosts beat a tenth of `lost_after` apart.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import psycopg
from peewee import PeeweeException
from psycopg import errors, sql

from premblyd.engines.engine import Database
from premblyd.engines.postgresql.transaction import (
    NOW_MS,
    Connection,
    PostgresqlTransaction,
    drivers_error,
    lock_number,
    translated,
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

WATCHED_S = 12.0  # at least
MOST_WATCHED_S = 120.0
GATHERED_S = 1.5  # once one has beaten, the others have so long to be named too
LOOK_S = 0.25
_FRESH_S = 60.0
_HOSTS = f"""
SELECT worker, name, pid, version, beat_count,
       abs({NOW_MS} - seen_at_ms)::float / 1000,
       least(60, coalesce((seen_at_ms - started_at_ms)::float / 1000 / nullif(beat_count, 0), 4))
FROM host WHERE ended_at_ms IS NULL ORDER BY id
"""  # noqa: S608 (a constant)


class Living(NamedTuple):
    """A daemon that has beaten while it was watched."""

    name: str
    pid: int
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Host:
    """A daemon that has not ended, as its row has it."""

    daemon: Living
    beat_count: int
    unseen_s: float
    beat_s: float  # from one beat to the next, so far

    @property
    def is_fresh(self) -> bool:
        """Whether its last beat is so young that it may live."""
        return self.unseen_s < _FRESH_S + 5 * self.beat_s


def living(
    connection: Connection, *, watched_s: float | None = None, fresh_only: bool = False
) -> list[Living]:
    """Watch the daemons that have not ended, for `watched_s` at least (None: WATCHED_S). Return
    those that live. `fresh_only`: who has not beaten for a minute and five beats is dead."""
    before = _hosts(connection, fresh_only=fresh_only)
    least_s = WATCHED_S if watched_s is None else watched_s
    longest_beat_s = max((host.beat_s for host in before.values()), default=0)
    until_s = time.monotonic() + min(max(3 * longest_beat_s, least_s), MOST_WATCHED_S)
    beaten: dict[str, Living] = {}
    while before and time.monotonic() < until_s:
        time.sleep(LOOK_S)
        now = _hosts(connection, fresh_only=fresh_only)
        for worker, host in now.items():
            has_beaten = worker not in before or before[worker].beat_count != host.beat_count
            if has_beaten and worker not in beaten:
                beaten[worker] = host.daemon
                until_s = min(until_s, time.monotonic() + GATHERED_S)
        before = {worker: host for worker, host in before.items() if worker in now}
        if beaten.keys() >= now.keys():
            break
    return list(beaten.values())


def _hosts(connection: Connection, *, fresh_only: bool) -> dict[str, _Host]:
    """Return who has not ended, by worker."""
    found = {
        worker: _Host(
            daemon=Living(name, pid, version),
            beat_count=beat_count,
            unseen_s=unseen_s,
            beat_s=beat_s,
        )
        for worker, name, pid, version, beat_count, unseen_s, beat_s in connection.execute(_HOSTS)
    }
    return {worker: host for worker, host in found.items() if host.is_fresh or not fresh_only}


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


def migrate(database: Database, name: str) -> list[str]:
    """Apply what the database lacks; return which migrations these were.

    Raise SchemaError when a newer premblyd wrote it, OlderDaemonsError when daemons work on it that
    would not survive it, MoveAtWorkError when it is being moved, StoreUnavailableError when it
    can't be migrated.
    """
    with translated():
        connection: Connection = database.connection()
        with _alone(connection):
            _require_no_move(connection, name)
            _require_one_place(connection, name)
            history = History(database)
            _require_usable(history, name)
            if history.applied and (incompatible := history.incompatible()):
                _require_no_daemon(connection, name, incompatible)
            if history.pending:
                become_owner(connection)
            return _apply(history, connection)


def check_schema(database: Database, name: str) -> None:
    """Raise SchemaError when this program can't work on the schema of the database."""
    try:
        with translated(StoreUnreadableError):
            _require_one_place(database.connection(), name)
            history = History(database)
            _require_usable(history, name)
        if history.pending:
            raise SchemaError(
                f"{name} is older than this premblyd, or empty. Start the daemon once: it migrates."
            )
    except PremblydError:
        database.close()
        raise


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
    """Keep daemons from starting to work on the database, until the connection is closed. Those
    that have begun have a row in `host` by now. Raise MoveAtWorkError when it is moved already."""
    until_s = time.monotonic() + KILLED_S
    while not _begins_move(connection):
        if time.monotonic() > until_s:
            raise MoveAtWorkError(name)
        time.sleep(LOOK_S)


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


def _require_usable(history: History, name: str) -> None:
    if not history.can_work:
        raise SchemaError(
            f"{name} was written by a newer premblyd (it knows {', '.join(history.newer)})."
            " Install that version."
        )


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
