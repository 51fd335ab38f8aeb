"""PostgreSQL as the store's engine: the writer's one connection, and its transactions."""

import contextlib
from collections.abc import Callable

import psycopg
from peewee import PeeweeException
from psycopg import errors

from premblyd.databases import Server
from premblyd.errors import StoreUnavailableError
from premblyd.store.engine import Transaction
from premblyd.store.postgresql.failures import plain
from premblyd.store.postgresql.opening import connect
from premblyd.store.postgresql.transaction import Connection, PostgresqlTransaction

TRIES = 4  # of a transaction that stands in another host's way: nothing of it was kept
_CONFLICTS = (errors.DeadlockDetected, errors.SerializationFailure)
_LACKS_RIGHTS = errors.InsufficientPrivilege


class PostgresqlEngine:
    """See store.engine.Engine."""

    def __init__(self, server: Server) -> None:
        self._database = connect(server)

    def transact(self, work: Callable[[Transaction], None]) -> None:
        for number in range(1, TRIES + 1):
            try:
                self._transact(work)
            except _CONFLICTS as error:
                if number == TRIES:
                    raise StoreUnavailableError(plain(error)) from None
            else:
                return

    def _transact(self, work: Callable[[Transaction], None]) -> None:
        try:
            connection = self._connection()
            with connection.transaction():
                work(PostgresqlTransaction(connection))
        except _CONFLICTS:
            raise
        except _LACKS_RIGHTS as error:
            raise StoreUnavailableError(plain(error)) from None
        except (psycopg.IntegrityError, psycopg.ProgrammingError, psycopg.DataError):
            raise  # the work's own fault
        except (psycopg.Error, PeeweeException) as error:
            # Only a new connection is sure to work again, or to reach the server that is first now.
            self._disconnect()
            raise StoreUnavailableError(plain(error)) from None

    def tidy_up(self, item_count: int) -> None:
        del item_count

    def close(self) -> None:
        self._disconnect()

    def _connection(self) -> Connection:
        connection: Connection = self._database.connection()
        return connection

    def _disconnect(self) -> None:
        with contextlib.suppress(psycopg.Error, PeeweeException):
            self._database.close()
