"""What the store needs of a database: an engine that runs transactions.

The hot path (inbox, queue, writer) knows these protocols alone. `store/sqlite/` fulfils them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from premblyd.store.statements import BulkInsert, Lookup, Statement

Row = tuple[Any, ...]
UNREADABLE = "\N{REPLACEMENT CHARACTER}"  # stands in a text for bytes that are no UTF-8


class Transaction(Protocol):
    """What an operation works on. It has the right to write from its start, so nobody changes
    what it has read."""

    def rows(self, statement: Statement, **values: Any) -> list[Row]:
        """Return what `statement` finds."""
        ...

    def row(self, statement: Statement, **values: Any) -> Row | None:
        """Return the first row that `statement` finds."""
        ...

    def look_up(self, lookup: Lookup, values: Sequence[str]) -> list[Row]:
        """Return the rows for any number of values."""
        ...

    def change(self, statement: Statement, **values: Any) -> int:
        """Run an UPDATE or DELETE; return how many rows it changed."""
        ...

    def insert(self, statement: Statement, **values: Any) -> int | None:
        """Insert a row; return its id, or None when `statement` leaves it out because another row
        has what must be unique."""
        ...

    def insert_many(self, inserting: BulkInsert, rows: Sequence[Row]) -> Sequence[int]:
        """Insert `rows`; return their ids in order."""
        ...


class Engine(Protocol):
    """A database in the hands of the writer's thread, and of nobody else."""

    def transact(self, work: Callable[[Transaction], None]) -> None:
        """Run `work`, and commit what it did to the disk before returning.

        Raise StoreUnavailableError when the database can't; then nothing was kept. What else is
        raised is the fault of `work`, and nothing was kept either.
        """
        ...

    def tidy_up(self, item_count: int) -> None:
        """Do what can wait until after a commit, while the loop answers. `item_count`: how many
        items the last transaction had."""
        ...

    def close(self) -> None: ...
