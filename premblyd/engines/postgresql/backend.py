"""PostgreSQL as a backend of the store: a server, which any number of daemons may share."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from peewee import Database, PeeweeException

from premblyd.databases import Server
from premblyd.engines.engine import Inspection, Sizes
from premblyd.engines.postgresql import inspection, opening
from premblyd.engines.postgresql.beacon import PostgresqlBeacon
from premblyd.engines.postgresql.deadline import interrupter
from premblyd.engines.postgresql.engine import DEADLINE_S, PostgresqlEngine
from premblyd.engines.postgresql.failures import translated
from premblyd.errors import StoreUnavailableError


@dataclass(frozen=True, slots=True)
class PostgresqlBackend:
    """See engines.engine.Backend."""

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
