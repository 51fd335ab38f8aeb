"""PostgreSQL as an engine: a server, which any number of daemons may share, and the writer's one
connection to it. And what such a server must be, as `check` tells it before a start; and what it
keeps of rows that were deleted or emptied, as far as an ordinary role may see it.
"""

import contextlib
import functools
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

TRIES = 4  # of a transaction of which nothing can have been kept
LOCK_WAIT = "2500ms"  # shorter than others wait: what webhooks don't need must not hold them up
SHORT_LOCK_WAIT = "250ms"
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
    """See engines.engine.Engine."""

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

    def transact(self, work: Callable[[Transaction], None], *, is_patient: bool = True) -> None:
        work = work if is_patient else functools.partial(_hurried, work)
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


def _hurried(work: Callable[[Transaction], None], transaction: Transaction) -> None:
    transaction.connection.execute(f"SET LOCAL lock_timeout = '{SHORT_LOCK_WAIT}'")
    work(transaction)


@dataclass(frozen=True, slots=True)
class PostgresqlBackend:
    """See engines.backend.Backend."""

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
    current_schema(), has_schema_privilege(current_user, current_schema(), 'CREATE') OR EXISTS (
        SELECT FROM pg_database WHERE datname = current_database()
        AND pg_has_role(datdba, 'MEMBER')  -- a daemon becomes the owner to make tables
        AND has_schema_privilege(datdba, current_schema(), 'CREATE'))"""
_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"
_LACKS = """SELECT tablename, lacks
    FROM pg_tables, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS lacks
    WHERE schemaname = current_schema()
    AND NOT has_table_privilege(quote_ident(schemaname) || '.' || quote_ident(tablename), lacks)
    ORDER BY tablename"""
_HAS_TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"


# A pooler that lends a server's session for one transaction only. What daemons do needs their own:
# settings that make a COMMIT wait for the disk, locks, LISTEN.
_POOLED = (
    "a pooler gives each transaction, or each statement, another session of the server (PgBouncer's"
    " `pool_mode` transaction or statement, say), and locks and settings of the daemon get lost:"
    " write the server's own address, or use `pool_mode` session"
)
_UNSAFE = (
    "A 200 means little: the server runs with fsync or full_page_writes off, and a power cut may"
    " lose everything."
)


class _ServerFacts(NamedTuple):
    """What the server says of itself."""

    version: str
    major: int
    encoding: str
    user: str
    database: str
    only_reads: bool
    is_safe: bool
    schema: str | None
    may_create: bool | None


def inspect(server: Server) -> Inspection:
    """Return what an operator should know of a database, as a daemon would find it now. It takes
    a few seconds at most, and changes nothing."""
    try:
        with translated(), contextlib.closing(connect(server)) as database:
            connection = database.connection()
            with bounded(connection, CONNECT_TIMEOUT_S):
                found = _server_facts(connection)
                has_tables = connection.execute(_HAS_TABLES).fetchone() != (0,)
                lacks = connection.execute(_LACKS).fetchall()
                obstacles = [_POOLED] if _is_pooled(connection, server) else []
                kept = _kept_longer(connection)
    except StoreUnavailableError as error:
        return Inspection(obstacles=(f"the database can't be used now: {error.reason}",))
    except PremblydError as error:
        return Inspection(obstacles=(str(error),))
    facts = [
        f"The database is reached: PostgreSQL {found.version}, database {found.database}, role"
        f" {found.user}.",
        *([] if found.is_safe else [_UNSAFE]),
        *kept.facts,
    ]
    obstacles += _faults(found)
    if found.only_reads:
        obstacles.append(
            "the server only reads: it may be a standby. With several hosts in the URL,"
            " `target_session_attrs=read-write` finds the one that writes"
        )
    if not has_tables:
        facts.append("It has no tables yet: the daemon makes them when it starts.")
        if not found.may_create:
            obstacles.append(
                f"the role {found.user} may not make the tables: it needs CREATE on the schema"
                f" {found.schema or 'public'}"
            )
    if rights := sorted({right for _, right in lacks}):
        table = lacks[0][0]
        obstacles.append(
            f"the role {found.user} lacks {', '.join(rights)} on {len({name for name, _ in lacks})}"
            f" of the tables ({table} is one); the daemon needs {_RIGHTS}"
        )
    return Inspection(facts=tuple(facts), warnings=kept.warnings, obstacles=tuple(obstacles))


def require_usable_server(server: Server) -> None:
    """Raise CannotStartError when the server can't hold a record, StoreUnavailableError when it
    can't be asked."""
    with translated(), contextlib.closing(connect(server)) as database:
        found = _server_facts(database.connection())
        faults = _faults(found)
        if _is_pooled(database.connection(), server):
            faults.append(_POOLED)
    if faults:
        raise CannotStartError(f"The database can't be used: {'; '.join(faults)}.")


def _server_facts(connection: Connection) -> _ServerFacts:
    [row] = connection.execute(_SERVER).fetchall()
    return _ServerFacts(*row)


def _is_pooled(connection: Connection, server: Server) -> bool:
    """Return whether the connection's next transaction may be in another session of the server. A
    pooler gives its own number for a session's process; then another transaction is opened beside,
    which gets the session that this connection has just used."""
    [pid] = connection.execute("SELECT pg_backend_pid()").fetchone() or [None]
    if pid == connection.info.backend_pid:
        return False
    connection.execute("SET premblyd.probe = 'kept'")
    try:
        with contextlib.closing(connect(server)) as other, other.connection().transaction():
            other.connection().execute("SELECT 1")
            row = connection.execute("SELECT current_setting('premblyd.probe', true)").fetchone()
    except psycopg.errors.ProtocolViolation:  # it lends for a statement only, and takes no BEGIN
        return True
    return row != ("kept",)


def _faults(found: _ServerFacts) -> list[str]:
    faults = []
    if found.major < OLDEST:
        faults.append(f"PostgreSQL {found.version} is too old: it must be {OLDEST} or newer")
    if found.encoding != "UTF8":
        faults.append(
            f"its encoding is {found.encoding}, and texts of webhooks may not fit: make a database"
            " with ENCODING 'UTF8' and TEMPLATE template0"
        )
    return faults


_SETTINGS = """SELECT
    current_setting('archive_mode') <> 'off',
    (SELECT count(*) FROM pg_replication_slots),
    (SELECT count(*) FROM pg_stat_replication),
    current_setting('wal_keep_size'),
    (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_keep_size') > 0,
    current_setting('log_statement') IN ('mod', 'all'),
    current_setting('log_min_duration_statement') <> '-1',
    current_setting('log_parameter_max_length', true) IS DISTINCT FROM '0',
    current_setting('autovacuum') = 'on'"""


class _Settings(NamedTuple):
    archives: bool
    slots: int
    standbys: int
    wal_kept: str
    keeps_wal: bool
    logs_statements: bool
    logs_slow: bool
    logs_parameters: bool
    cleans: bool


def _kept_longer(connection: Connection) -> Inspection:
    """Yield the settings that make deleted data stay outside the tables for longer."""
    [row] = connection.execute(_SETTINGS).fetchall()
    found = _Settings(*row)
    places = []
    if found.archives:
        places.append("WAL archives (archive_mode is on)")
    if found.slots:
        places.append(f"the WAL that {found.slots} replication slots hold")
    elif found.keeps_wal:
        places.append(f"the WAL (wal_keep_size is {found.wal_kept})")
    if found.standbys:
        places.append(f"{found.standbys} standbys, until they have applied it")
    facts = []
    if places:
        facts.append(
            f"Deleted data stays for a while in {'; '.join(places)}, and in base"
            " backups and dumps (docs/personal-data.md)."
        )
    warnings = []
    if (found.logs_statements or found.logs_slow) and found.logs_parameters:
        setting = "log_statement" if found.logs_statements else "log_min_duration_statement"
        warnings.append(
            f"the server's {setting} writes statements with their values into its log, bodies too:"
            " set log_parameter_max_length to 0 for this role"
        )
    if not found.cleans:
        warnings.append("the server's autovacuum is off, so deleted data stays in its table files")
    return Inspection(facts=tuple(facts), warnings=tuple(warnings))
