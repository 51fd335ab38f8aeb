"""PostgreSQL as an engine: a server, which any number of daemons may share, and the writer's one
connection to it."""

import contextlib
import functools
import os
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import psycopg
from peewee import PeeweeException
from psycopg import errors

from premblyd.features.postgresql import inspecting, opening, schema, transaction
from premblyd.features.postgresql.beacon import PostgresqlBeacon
from premblyd.features.postgresql.opening import Deadline, connect, plain, translated
from premblyd.features.postgresql.settings import Server
from premblyd.features.postgresql.transaction import can_gather
from premblyd.ground.errors import PremblydError, StoreUnavailableError, TableUnavailableError
from premblyd.store.backend import Shell
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
        inspecting.require_usable(self.server)
        return schema.prepare(self.server)

    def inspect(self) -> Inspection:
        inspected = inspecting.inspect(self.server)
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

    def shell(self) -> Shell:
        options = f"{os.environ.get('PGOPTIONS', '')} -c default_transaction_read_only=on".strip()
        environment = {"PGOPTIONS": options}
        if self.server.password is not None:
            environment["PGPASSWORD"] = self.server.password
        return Shell("psql", "postgresql-client", [self.server.url], environment)

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
