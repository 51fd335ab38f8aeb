"""What every user of a database needs, whichever engine it is: statements, transactions that run
them, an engine for the writer's thread, and every way to open it (`Backend`).

A statement is a Peewee query, built once and run often: each engine compiles it once. The hot path
(inbox, queue, writer) knows what is here alone; `sqlite/` is one, a feature may be another.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import peewee
from peewee import CTE, Expression, Field, Node, Query, Value

from premblyd.ground.errors import PremblydError
from premblyd.ground.times import Clock
from premblyd.store.columns import Table

Row = tuple[Any, ...]
Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Param:
    """A value that a statement gets by its name when it runs."""

    name: str


def param(name: str) -> Value:
    """Return what stands in a query for the value that the statement gets as `name`."""
    return Value(Param(name), converter=False)


def params(*names: str) -> dict[str, Value]:
    """Return a `param` for each of these names."""
    return {name: param(name) for name in names}


class Statement:
    """A query with its params.

    With `locks`, the rows it finds can't be changed by other transactions until this one ends, and
    rows that another one has are left out of what it finds.
    """

    def __init__(self, query: Query, *, locks: bool = False) -> None:
        self.query = query
        self.locks = locks


class Lookup:
    """A query for the rows whose `column` has one of the values that it gets; or an UPDATE or
    DELETE of them, whose other params it gets by name. `locks`: as of a Statement."""

    def __init__(self, query: Query, column: Field, *, locks: bool = False) -> None:
        self.query = query
        self.column = column
        self.locks = locks


class BulkInsert:
    """Inserts rows of `model`, each with a value for every one of `columns`. Of the column `unique`
    another host may store the same value at the same time: such a row is left out. `found`: columns
    whose values are found by a query each, which has the row's own as the param of that name."""

    def __init__(
        self,
        model: type[Table],
        *columns: str,
        unique: str | None = None,
        found: Mapping[str, Query] | None = None,
    ) -> None:
        self.model = model
        self.unique = unique
        self.columns = columns
        self._found = found or {}
        self._fields = [model._meta.columns[column] for column in columns]

    def query(self, count: int) -> Query:
        """Return the query that inserts `count` rows at once."""
        row = [
            self._found[column] if column in self._found else param(column)
            for column in self.columns
        ]
        return self.model.insert_many([row] * count, fields=self._fields)


class BulkUpdate:
    """Updates many rows in one statement, each by values of its own. `query` makes it from the
    table of these values, with `columns` of such types. It may run twice: that must be the same as
    once. `key`: the column, also of the values, by which is told which rows it has changed."""

    def __init__(
        self, query: Callable[[CTE], Query], key: Field, columns: Mapping[str, type[Any]]
    ) -> None:
        self.key = key
        self.key_place = list(columns).index(key.column_name)  # in a row of values
        self.columns = columns
        self._query = query

    def query(self, values: Node) -> Query:
        """Return the query that reads `values`. These are the first that its text takes."""
        given = CTE("given", values, columns=list(self.columns))
        updating: Any = self._query(given)
        reading: Query = updating.from_(given).with_cte(given)
        return reading

    def query_from(self, given: Node) -> Query:
        """Return the query that reads a table with the name `given`. It begins with UPDATE: else
        the sqlite3 module counts no rows."""
        updating: Any = self._query(CTE("given", given))
        reading: Query = updating.from_(given)
        return reading


def insert(model: type[Table], *columns: str, if_unique: bool = False) -> Statement:
    """Return the statement that inserts a row of `model` with params named like its columns; with
    `if_unique`, only if no other row has what must be unique."""
    query = model.insert(_params(model, columns))
    return Statement(query.on_conflict_ignore() if if_unique else query)


def update(model: type[Table], *columns: str, where: Expression) -> Statement:
    """Return the statement that sets `columns` of the rows of `model` that match `where`."""
    return Statement(model.update(_params(model, columns)).where(where))


def _params(model: type[Table], columns: tuple[str, ...]) -> dict[Field, Value]:
    return {model._meta.columns[column]: param(column) for column in columns}


@dataclass(frozen=True, slots=True)
class Compiled:
    """The text of a query for one engine, and in which order it takes its values."""

    text: str
    parts: tuple[Any, ...]  # params and constants

    def bind(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values as the text takes them."""
        return [values[part.name] if type(part) is Param else part for part in self.parts]


def compile_query(query: Query, engine: peewee.Database) -> Compiled:
    """Return `query` in the SQL of `engine`, which need not be connected."""
    text, parts = engine.get_sql_context().parse(query)
    return Compiled(text, tuple(parts))


class Transaction(ABC):
    """What an operation works on.

    Each answer that is waited for costs a way to the server and back. So what is asked together is
    asked first (`ask`, `ask_for`, `asking_lock`) and read then, once; and of what is written
    nothing is read that nobody needs (`write`).

    On SQLite it has the right to write from its start, so nobody changes what it has read. Where
    other hosts write at the same time, what must stay as it was read is locked: by `lock`, by
    `try_lock`, or by a statement that locks the rows it finds.
    """

    part = 0  # of a table of counts: each daemon counts in rows of its own
    bound: Any = None  # what features do here, see queue/hooks.py; None: as in a command
    is_far = False  # each answer costs a way to a server: then it is asked also what may be needed
    # Rows in one INSERT: a few prepared statements serve every number of rows.
    insert_sizes: ClassVar[Sequence[int]]
    # By the engine, once for each statement.
    compiled: Callable[[Statement], Compiled]
    compiled_lookup: Callable[[Lookup], Compiled]
    compiled_inserts: Callable[[BulkInsert, int], Compiled]

    def __init__(self, connection: Any, digest_key: bytes = b"") -> None:
        """`digest_key`: of the record's row, by which its digests are made."""
        self.connection = connection
        self.digest_key = digest_key

    def rows(self, statement: Statement, **values: Any) -> list[Row]:
        """Return what `statement` finds."""
        return self.ask(statement, **values)()

    def row(self, statement: Statement, **values: Any) -> Row | None:
        """Return the first row that `statement` finds."""
        row: Row | None = self._execute(self.compiled(statement), values).fetchone()
        return row

    @staticmethod
    @abstractmethod
    def as_param(values: Sequence[str] | Sequence[int]) -> Any:
        """Return the values of a look-up, however many, as the one param that it has for them."""

    def number(self, statement: Statement, **values: Any) -> int:
        """Return the number that `statement` finds, such as a count; 0: there is none."""
        row = self.row(statement, **values)
        return int(row[0] or 0) if row else 0

    def look_up(self, lookup: Lookup, values: Sequence[str] | Sequence[int]) -> list[Row]:
        """Return the rows for any number of values."""
        return self.ask_for(lookup, values)()

    def change_each(
        self, lookup: Lookup, keys: Sequence[str] | Sequence[int], **values: Any
    ) -> int:
        """Run an UPDATE or DELETE of the rows of any number of `keys`; return how many it
        changed."""
        values["values"] = self.as_param(keys)
        return int(self._execute(self.compiled_lookup(lookup), values).rowcount)

    def ask(self, statement: Statement, **values: Any) -> Callable[[], list[Row]]:
        """Have `statement` run; return what reads the rows that it finds."""
        return self._ask(self.compiled(statement), values)

    def ask_for(
        self, lookup: Lookup, values: Sequence[str] | Sequence[int]
    ) -> Callable[[], list[Row]]:
        """Have a look-up run; return what reads its rows."""
        return self._ask(self.compiled_lookup(lookup), {"values": self.as_param(values)})

    def change(self, statement: Statement, **values: Any) -> int:
        """Run an UPDATE or DELETE; return how many rows it changed."""
        return int(self._execute(self.compiled(statement), values).rowcount)

    def write(self, statement: Statement, **values: Any) -> None:
        """Run an INSERT, UPDATE or DELETE without a result."""
        self._execute(self.compiled(statement), values)

    @abstractmethod
    def insert(self, statement: Statement, **values: Any) -> int | None:
        """Insert a row; return its id, or None when `statement` leaves it out because another row
        has what must be unique."""

    def insert_many(self, inserting: BulkInsert, rows: Sequence[Row]) -> list[int | None]:
        """Insert `rows`; return their ids in order. None: left out, because another host has just
        stored a row with what must be unique."""
        return self.inserting_many(inserting, rows)()

    def inserting_many(
        self, inserting: BulkInsert, rows: Sequence[Row]
    ) -> Callable[[], list[int | None]]:
        """Have `rows` inserted; return what reads their ids, as `insert_many` returns them."""
        inserted: list[tuple[Sequence[Row], Any]] = []
        start = 0
        for size in self.insert_sizes:
            while len(rows) - start >= size:
                part = rows[start : start + size]
                text = self.compiled_inserts(inserting, size).text
                cursor = self.connection.execute(text, list(chain.from_iterable(part)))
                inserted.append((part, cursor))
                start += size
        return lambda: [
            id_ for part, cursor in inserted for id_ in self._ids(inserting, part, cursor)
        ]

    def write_many(self, inserting: BulkInsert, rows: Sequence[Row]) -> None:
        """Insert `rows` without returning their ids."""
        self.inserting_many(inserting, rows)

    @abstractmethod
    def changing_many(
        self, changing: BulkUpdate, rows: Sequence[Row]
    ) -> Callable[[], Collection[Any]]:
        """Have rows changed, each by a row of values; return what reads the keys of those that
        were."""

    def lock(self, names: Iterable[str]) -> None:
        """Wait until no other transaction has these names, and have them until this one ends. Take
        all that an operation needs at once: those who take them one by one wait for each other."""
        del names

    def try_lock(self, name: str) -> bool:
        """Have this name until the transaction ends, unless another transaction has it. Return
        whether this one has it."""
        return self.asking_lock(name)()

    def asking_lock(self, name: str) -> Callable[[], bool]:
        """Ask for a name as `try_lock` does; return what reads whether this transaction has it."""
        return lambda: True

    def _ask(self, statement: Compiled, values: Mapping[str, Any]) -> Callable[[], list[Row]]:
        found: list[Row] = self._execute(statement, values).fetchall()
        return lambda: found

    def _execute(self, statement: Compiled, values: Mapping[str, Any]) -> Any:
        return self.connection.execute(statement.text, statement.bind(values))

    @abstractmethod
    def _ids(self, inserting: BulkInsert, rows: Sequence[Row], cursor: Any) -> Iterable[int | None]:
        """Return the ids of `rows`, which were inserted just now."""


class Database(peewee.Database, ABC):
    """What reads the record, or a command writes by while daemons run. Its connection is one
    thread's."""

    digest_key = b""  # of the record, once its schema was looked at

    if TYPE_CHECKING:  # Peewee does not say them

        def connection(self) -> Any: ...

        def execute(self, query: Any, **context_options: Any) -> Any: ...

        def execute_sql(self, sql: str, params: Sequence[Any] | None = None) -> Any: ...

    @abstractmethod
    def transact(self, work: Callable[[Transaction], Done], *, alone: bool = False) -> Done:
        """Run `work` in a transaction; `alone`: while nobody else has one that writes, as nobody
        ever has on SQLite. Raise StoreUnavailableError when nothing of it could be kept."""

    @abstractmethod
    def look(self, work: Callable[[Transaction], Done]) -> Done:
        """Run `work`, which only reads, in a transaction: also on a connection that only reads.
        Raise StoreUnreadableError when it can't be read."""

    def clock(self) -> Clock:
        """Return the clock of the daemons: this machine's, or one that follows the server's."""
        return Clock()

    def now_ms(self) -> int:
        """Return the time by that clock."""
        return self.clock().now_ms()

    @abstractmethod
    def ask(self, query: str, most: int) -> tuple[list[str], list[Any]]:
        """Return what a SELECT finds that somebody typed: the names of its columns, and its first
        rows. The connection only reads. Raise PremblydError for anything else, and when it
        fails."""

    @abstractmethod
    def interrupter(self) -> Callable[[], None]:
        """Return what stops, from another thread, what is read by the connection."""


ONLY_READS = "`premblyd sql` is read-only: give it a SELECT."


def query_failed(error: Exception) -> PremblydError:
    """Return the error for a typed query that failed, in the engine's words."""
    words = str(error).strip().rstrip(".") or type(error).__name__
    return PremblydError(f"The query failed: {words}.")


class Engine(Protocol):
    """A database in the hands of the writer's thread, and of nobody else."""

    runs_here: bool  # its statements run in this process, and not on a server
    digest_key: bytes  # of the record
    refusals: tuple[type[Exception], ...]  # what it raises for a value that breaks a rule

    def transact(self, work: Callable[[Transaction], None]) -> None:
        """Run `work`, and commit what it did to the disk before returning.

        Raise StoreUnavailableError when the database can't; then nothing was kept. (Of this
        TableUnavailableError, where other work may be kept.) What else is raised is the fault of
        `work`, and nothing was kept either.
        """

    def tidy_up(self, item_count: int) -> None:
        """Do what can wait until after a commit, while the loop answers. `item_count`: how many
        items the last transaction had."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The size of a database. None: it has no such file, or its size is not known."""

    database_bytes: int | None
    log_bytes: int | None = None  # of SQLite's write-ahead log
    free_bytes: int | None = None  # on the disk of its file


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What an operator should know of a database before a daemon works on it, in sentences."""

    facts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()  # why a daemon can't start on it


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
