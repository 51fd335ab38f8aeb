"""A database of one engine, and every way to open it: what `connections.py` chooses."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from premblyd.engines.beacon import Beacon
from premblyd.engines.besides import Copied, OtherCopy, Sought
from premblyd.engines.engine import Database, Engine, Inspection, Packed, Room, Sizes
from premblyd.vault import Vault


class Backend(Protocol):
    """A database of one engine, and every way to open it."""

    is_shared: bool  # other daemons may work on it at the same time
    copy_suffix: str  # of files with what `write_copy` writes: db, dump

    @property
    def vault(self) -> Vault | None:
        """What all that is opened by this seals and opens with."""
        ...

    def hold(self) -> AbstractContextManager[None]:
        """Keep other daemons out for as long as it is entered, where the engine serves only one.
        Raise AlreadyRunningError when another is there, CannotStartError when it can't be used."""
        ...

    def prepare(self, check: Callable[[Database], None] = lambda _: None) -> list[str]:
        """Make or migrate the database; return the migrations applied now. `check` is called before
        anything is changed, and what it raises ends it.

        Raise SchemaError when a newer premblyd wrote it, StoreUnavailableError when it can't be
        opened.
        """
        ...

    def inspect(self, check: Callable[[Database], None] = lambda _: None) -> Inspection:
        """Try what a daemon does first, `hold` and `prepare` with this `check`, and change nothing.
        That a daemon has it already is no obstacle. It takes a few seconds at most."""
        ...

    def engine(self) -> Engine:
        """Return what the writer's thread works with."""
        ...

    def connect_read_only(self) -> Database:
        """Return a connection that only reads. Raise PremblydError when there is no database of
        this premblyd's, StoreUnavailableError when it can't be read."""
        ...

    def connect_operator(self) -> Database:
        """Return a connection by which a command writes while daemons run. Raise as
        `connect_read_only`."""
        ...

    def beacon(self) -> Beacon | None:
        """Return what a daemon knows the others by, where there may be others."""
        ...

    def sizes(self) -> Sizes:
        """Return how large it is. It may read the database, so not in the loop."""
        ...

    def room(self) -> Room:
        """Return what `pack` needs of the disk. Raise PremblydError when there is nothing to be
        packed."""
        ...

    def pack(self) -> Packed:
        """Write the database anew while no daemon works on it, so that nothing is left in its file
        of what was deleted. Raise AlreadyRunningError when a daemon works on it, TryAgainError when
        somebody reads it, StoreUnavailableError when there is no room."""
        ...

    def write_copy(
        self, out: BinaryIO, tell: Callable[[Copied], None], *, without_keys: bool = False
    ) -> None:
        """Write the whole record, or all but events' keys, as it is at one moment, while daemons
        work on it, and tell now and then how far that is. Raise DamagedError when it is not whole,
        PremblydError when it can't be copied, and what `out` raises."""

    def copies_with(self, sought: Sought) -> Sequence[OtherCopy]:
        """Return the copies beside it that hold something of what is sought, and those that can't
        be looked into."""
        ...

    def delete_copy(self, copy: OtherCopy) -> None:
        """Delete one of these. Raise PremblydError when it can't be."""
        ...
