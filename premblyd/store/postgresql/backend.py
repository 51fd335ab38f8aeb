"""PostgreSQL as a backend of the store: a server, which any number of daemons may share."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from peewee import Database, PeeweeException

from premblyd.databases import Server
from premblyd.errors import StoreUnavailableError
from premblyd.store.engine import Inspection, Sizes
from premblyd.store.postgresql import inspection, moving, opening
from premblyd.store.postgresql.beacon import PostgresqlBeacon
from premblyd.store.postgresql.deadline import interrupter
from premblyd.store.postgresql.engine import DEADLINE_S, PostgresqlEngine
from premblyd.store.postgresql.failures import translated


@dataclass(frozen=True, slots=True)
class PostgresqlBackend:
    """See store.engine.Backend."""

    server: Server
    is_shared = True

    def __post_init__(self) -> None:
        opening.parameters(self.server)  # raises CannotStartError for a URL that can't be used

    def hold(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def prepare(self) -> list[str]:
        inspection.require_usable(self.server)
        return opening.prepare(self.server)

    def inspect(self) -> Inspection:
        return inspection.inspect(self.server)

    def engine(self) -> PostgresqlEngine:
        return PostgresqlEngine(self.server, DEADLINE_S)

    def connect_read_only(self) -> Database:
        return opening.connect_read_only(self.server)

    def connect_operator(self) -> Database:
        return opening.connect_operator(self.server)

    def interrupter(self, database: Database) -> Callable[[], None]:
        return interrupter(database.connection())

    def moving_from(self) -> AbstractContextManager[moving.PostgresqlSource]:
        return moving.source(self.server)

    def moving_to(self) -> AbstractContextManager[moving.PostgresqlTarget]:
        return moving.target(self.server)

    def beacon(self) -> PostgresqlBeacon:
        return PostgresqlBeacon(self.server)

    def sizes(self) -> Sizes:
        try:
            with (
                translated(),
                contextlib.closing(opening.connect_read_only(self.server)) as database,
            ):
                [(size,)] = database.execute_sql("SELECT pg_database_size(current_database())")
        except (StoreUnavailableError, PeeweeException):
            return Sizes(database_bytes=None)
        return Sizes(database_bytes=size)
