"""PostgreSQL as an engine: a server, which any number of daemons may share, and the writer's one
connection to it. And what such a server must be, as `check` tells it before a start.
"""

import contextlib
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple

import psycopg
from peewee import PeeweeException
from psycopg import errors

from premblyd.features.postgresql import opening, schema, transaction
from premblyd.features.postgresql.beacon import PostgresqlBeacon
from premblyd.features.postgresql.opening import (
    CONNECT_TIMEOUT_S,
    Deadline,
    bounded,
    connect,
    plain,
    translated,
)
from premblyd.features.postgresql.settings import Server
from premblyd.features.postgresql.transaction import Connection, can_gather
from premblyd.ground.errors import (
    CannotStartError,
    PremblydError,
    StoreUnavailableError,
    TableUnavailableError,
)
from premblyd.store.engine import Database, Inspection, Sizes, Transaction
from premblyd.store.schema import is_made

TRIES = 4  # of a transaction of which nothing can have been kept
LOCK_WAIT = "2500ms"  # shorter than others wait: what webhooks don't need must not hold them up
DEADLINE_S = 10.0  # of a transaction with all its tries; connecting has a limit of its own
_CONFLICTS = (errors.DeadlockDetected, errors.SerializationFailure)
# The last: a text is too long for an index.
_REFUSALS = (psycopg.IntegrityError, psycopg.DataError, errors.ProgramLimitExceeded)
# Somebody must grant or restore something; webhooks are refused until then.
_OF_THE_DATABASE = (
    errors.InsufficientPrivilege,
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.UndefinedFunction,
    errors.InvalidSchemaName,
)
_NO_ANSWER = "PostgreSQL does not answer"


class _TryAgainError(PremblydError):
    """Nothing of the transaction was kept, for certain, and another try may succeed. `fault`: what
    to raise if none does, as it is the work's own then."""

    def __init__(self, reason: str, fault: psycopg.IntegrityError | None = None) -> None:
        super().__init__(reason)
        self.fault = fault


class PostgresqlEngine:
    """See engine.Engine."""

    runs_here = False
    refusals: tuple[type[Exception], ...] = _REFUSALS

    def __init__(self, server: Server, deadline_s: float) -> None:
        with contextlib.closing(schema.connect_read_only(server)) as database:
            self.digest_key = database.digest_key
        self._deadline = Deadline(deadline_s)
        self._database = connect(server, self._deadline.watch, lock_timeout=LOCK_WAIT)
        self._committing = False
        self._part: int | None = None
        self._gathers = False

    def transact(self, work: Callable[[Transaction], None]) -> None:
        with self._deadline:
            for number in range(TRIES):
                try:
                    self._transact(work)
                except _TryAgainError as error:
                    reason = str(error)
                    if error.fault is not None and number == TRIES - 1:
                        raise error.fault from None
                    time.sleep(random.uniform(0, 0.01 * number))  # noqa: S311 (spreads tries)
                else:
                    return
        raise StoreUnavailableError(reason)

    def _transact(self, work: Callable[[Transaction], None]) -> None:
        """Try once. Raise _TryAgainError when another try may succeed."""
        is_new = self._database.is_closed()
        self._committing = False
        try:
            connection = self._database.connection()
            if is_new:
                self._part = transaction.take_part(connection)
                self._gathers = can_gather(connection)
            run = transaction.run_in_pieces if self._gathers else transaction.run
            run(connection, work, self.digest_key, self._will_commit, self._part)
        except _CONFLICTS as error:
            raise _TryAgainError(plain(error)) from None
        except errors.UniqueViolation as error:  # another host was first: it is there now
            raise _TryAgainError(plain(error), error) from None
        except _OF_THE_DATABASE as error:
            raise TableUnavailableError(plain(error)) from None
        except (*_REFUSALS, psycopg.ProgrammingError):
            raise  # the work's own fault
        except (psycopg.Error, PeeweeException) as error:
            self._disconnect()
            reason = _NO_ANSWER if self._deadline.is_over else plain(error)
            if isinstance(error, errors.LockNotAvailable) and not self._deadline.is_over:
                raise TableUnavailableError(reason) from None
            # Only a new connection is sure to work again, or to reach the server that is first now.
            # Before the COMMIT was sent, that can be tried at once: nobody notices a server that
            # was restarted.
            if is_new or self._committing or self._deadline.is_over:
                raise StoreUnavailableError(reason) from None
            raise _TryAgainError(reason) from None

    def tidy_up(self, item_count: int) -> None:
        """Nothing can wait until then."""

    def close(self) -> None:
        self._disconnect()
        self._deadline.close()

    def _will_commit(self) -> None:
        self._committing = True

    def _disconnect(self) -> None:
        self._deadline.forget()
        with contextlib.suppress(psycopg.Error, PeeweeException):
            self._database.close()


@dataclass(frozen=True, slots=True)
class PostgresqlBackend:
    """See engine.Backend."""

    server: Server
    is_shared = True

    def __post_init__(self) -> None:
        opening.parameters(self.server)  # raises CannotStartError for a URL that can't be used

    def hold(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def prepare(self) -> bool:
        require_usable_server(self.server)
        return schema.prepare(self.server)

    def inspect(self) -> Inspection:
        inspected = inspect(self.server)
        if not inspected.obstacles:
            try:
                schema.require_usable(self.server)
            except PremblydError as error:
                return replace(inspected, obstacles=(str(error),))
        return inspected

    def engine(self) -> PostgresqlEngine:
        return PostgresqlEngine(self.server, DEADLINE_S)

    def connect_read_only(self) -> Database:
        return schema.connect_read_only(self.server)

    def connect_operator(self) -> Database:
        return schema.connect_operator(self.server)

    def beacon(self) -> PostgresqlBeacon:
        """Return what a daemon knows the others by."""
        return PostgresqlBeacon(self.server)

    def sizes(self) -> Sizes:
        try:
            with (
                translated(),
                contextlib.closing(schema.connect_read_only(self.server)) as database,
            ):
                [(size,)] = database.execute_sql("SELECT pg_database_size(current_database())")
        except (StoreUnavailableError, PeeweeException):
            return Sizes(database_bytes=None)
        return Sizes(database_bytes=size)


OLDEST = 14
_SERVER = """SELECT
    current_setting('server_version'), current_setting('server_version_num')::int / 10000,
    current_setting('server_encoding'), current_user, current_database(),
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',
    current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
    pg_backend_pid()"""


class _ServerFacts(NamedTuple):
    """What the server says of itself."""

    version: str
    major: int
    encoding: str
    user: str
    database: str
    only_reads: bool
    is_safe: bool
    pid: int


def inspect(server: Server) -> Inspection:
    """Return what an operator should know of a database, as a daemon would find it now. It takes
    a few seconds at most, and changes nothing."""
    try:
        with translated(), contextlib.closing(connect(server)) as database:
            connection = database.connection()
            with bounded(connection, CONNECT_TIMEOUT_S):
                found = _server_facts(connection)
                obstacles = _faults(found, connection)
                is_new = not is_made(database)
    except StoreUnavailableError as error:
        return Inspection(obstacles=(f"the database can't be used now: {error.reason}",))
    except PremblydError as error:
        return Inspection(obstacles=(str(error),))
    facts = [
        f"The database is reached: PostgreSQL {found.version}, database {found.database}, role"
        f" {found.user}."
    ]
    if is_new:
        facts.append("It has no tables yet: the daemon makes them when it starts.")
    if not found.is_safe:
        facts.append(
            "A 200 means little: the server runs with fsync or full_page_writes off, and a power"
            " cut may lose everything."
        )
    if found.only_reads:
        obstacles.append(
            "the server only reads: it may be a standby. With several hosts in the URL,"
            " `target_session_attrs=read-write` finds the one that writes"
        )
    return Inspection(facts=tuple(facts), obstacles=tuple(obstacles))


def require_usable_server(server: Server) -> None:
    """Raise CannotStartError when the server can't hold a record, StoreUnavailableError when it
    can't be asked."""
    with translated(), contextlib.closing(connect(server)) as database:
        connection = database.connection()
        faults = _faults(_server_facts(connection), connection)
    if faults:
        raise CannotStartError(f"The database can't be used: {'; '.join(faults)}.")


def _server_facts(connection: Connection) -> _ServerFacts:
    [row] = connection.execute(_SERVER).fetchall()
    return _ServerFacts(*row)


def _faults(found: _ServerFacts, connection: Connection) -> list[str]:
    faults = []
    if found.major < OLDEST:
        faults.append(f"PostgreSQL {found.version} is too old: it must be {OLDEST} or newer")
    if found.encoding != "UTF8":
        faults.append(
            f"its encoding is {found.encoding}, and texts of webhooks may not fit: make a database"
            " with ENCODING 'UTF8' and TEMPLATE template0"
        )
    if found.pid != connection.info.backend_pid:
        # It may lend a session for one transaction only. Daemons need their own: for settings that
        # make a COMMIT wait for the disk, locks, LISTEN.
        faults.append(
            "there is a pooler (PgBouncer, say) before it: write the server's own address"
        )
    return faults
