"""One engine's database, and every way to open it: `connections.py` chooses one."""

from contextlib import AbstractContextManager
from typing import Protocol

from premblyd.store.engine import Database, Engine, Inspection, Sizes


class Backend(Protocol):
    """A database of one engine, and every way to open it."""

    is_shared: bool  # other daemons may work on it at the same time

    def hold(self) -> AbstractContextManager[None]:
        """Keep other daemons out for as long as it is entered, where the engine serves only one.
        Raise AlreadyRunningError when another is there, CannotStartError when it can't be used."""

    def prepare(self) -> bool:
        """Make what is missing of the schema; return whether the database is new.

        Raise SchemaError when another build of premblyd made it, StoreUnavailableError when it
        can't be opened.
        """

    def inspect(self) -> Inspection:
        """Try what a daemon does first, `hold` and `prepare`, and change nothing. That a daemon has
        it already is no obstacle. It takes a few seconds at most."""

    def engine(self) -> Engine:
        """Return what the writer's thread works with."""

    def connect_read_only(self) -> Database:
        """Return a connection that only reads. Raise PremblydError when there is no database of
        this premblyd's, StoreUnavailableError when it can't be read."""

    def connect_operator(self) -> Database:
        """Return a connection for a command that writes while daemons run. Raise as
        `connect_read_only`."""

    def sizes(self) -> Sizes:
        """Return how large it is. It may read the database, so not in the loop."""
