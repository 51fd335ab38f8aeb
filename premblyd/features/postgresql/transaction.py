"""Transactions on PostgreSQL: the statements of the record in its SQL, and what commits them."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from peewee import SQL, Expression, NodeList, PostgresqlDatabase, Query, fn
from psycopg.errors import Diagnostic

from premblyd.features.postgresql.pieces import Pieces
from premblyd.ground.errors import StoreUnavailableError
from premblyd.store.engine import (
    BulkInsert,
    BulkUpdate,
    Compiled,
    Lookup,
    Param,
    Row,
    Statement,
    Transaction,
    compile_query,
)

# Of a table of counts: so many daemons have a part each, as long as they are connected, and nobody
# waits for another's counts. Others, such as commands, seldom share one: the trigger does the same.
PARTS = 64
_POSTGRESQL = PostgresqlDatabase(None, prefer_psycopg3=True)
NOT_ON_STANDBY = "PostgreSQL was told to stop waiting for its standby, which may lack the newest"
_ROLLED_BACK = "PostgreSQL has rolled a transaction back"
NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"  # by the server's clock
_LOCK = "SELECT pg_advisory_xact_lock(number) FROM unnest(%s::bigint[]) AS number"
_TAKE_PART = """
    SELECT part, set_config('premblyd.part', part::text, false)
    FROM generate_series(0, %s) AS part WHERE pg_try_advisory_lock(730994081, part) LIMIT 1
"""
# Whoever writes has it, shared by all, before any other lock; and who must be alone has it for
# itself. So what that finds is all there is, and nothing that it changes is in somebody's hands.
# Those that come behind it wait too: so it does not wait as long as they would.
_BE_ONE_OF_MANY = "SELECT pg_advisory_xact_lock_shared(730994082)"
_BE_ALONE = "SET LOCAL lock_timeout = '1500ms'; SELECT pg_advisory_xact_lock(730994082)"
_TYPES = {int: "bigint", str: "text", bool: "boolean"}
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(%s)"
Connection = psycopg.Connection[Any]
Done = TypeVar("Done")


def take_part(connection: Connection) -> int | None:
    """Return the part of the tables of counts that is this connection's alone, until it is closed;
    None when all are taken."""
    row = connection.execute(_TAKE_PART, [PARTS - 1]).fetchone()
    return row[0] if row else None


def run(
    connection: Connection,
    work: Callable[[Transaction], Done],
    digest_key: bytes,
    will_commit: Callable[[], None] = lambda: None,
    part: int | None = None,
    *,
    alone: bool = False,
) -> Done:
    """Run `work` in a transaction, and commit. `will_commit` is called before that: from then on a
    failure leaves open whether anything was kept. `part`: the connection's, if it has taken one.
    `alone`: no other transaction writes meanwhile.

    Raise StoreUnavailableError when the server committed with a warning: somebody has cancelled the
    wait for its standby, which may lack what was committed.
    """
    with _warned(connection) as listen, connection.transaction():
        connection.execute(_BE_ALONE if alone else _BE_ONE_OF_MANY)
        done = work(PostgresqlTransaction(connection, digest_key, part))
        listen()
        will_commit()
    return done


def run_in_pieces(
    connection: Connection,
    work: Callable[[Transaction], None],
    digest_key: bytes,
    will_commit: Callable[[], None],
    part: int | None,
) -> None:
    """Run `work` as `run` does, but wait for the server only where something is read that it has
    said, and for the commit: each wait costs a way there and back.

    What fails does so where the next answer is read, at the latest at the commit, which is not done
    then: the server leaves out all that was sent behind it.
    """
    failure: BaseException | None = None
    with _warned(connection) as listen:
        try:
            with connection.pipeline() as pipeline:
                try:
                    pieces = Pieces(connection, pipeline)
                    pieces.execute("BEGIN", prepare=False)  # there is nothing to plan
                    pieces.execute(_BE_ONE_OF_MANY)
                    work(PostgresqlTransaction(connection, digest_key, part, pieces))
                    listen()
                    will_commit()
                    ended = pieces.execute("COMMIT", prepare=False)
                # The pipeline is left in good order, else psycopg logs what the server says; and
                # out of the transaction, for it ends with a Flush.
                except BaseException as error:  # noqa: BLE001
                    failure = error
                    _roll_back(connection)
        except psycopg.Error as error:
            failure = failure or error
        if failure is None and ended.statusmessage != "COMMIT":
            failure = StoreUnavailableError(_ROLLED_BACK)
        if failure is not None:
            try:
                _roll_back(connection)
                raise failure
            finally:
                del failure  # refers to this frame, and that to what was to be stored


def _roll_back(connection: Connection) -> None:
    """End a transaction that has failed, unless the connection has ended it."""
    with contextlib.suppress(psycopg.Error):
        connection.rollback()


@contextlib.contextmanager
def _warned(connection: Connection) -> Iterator[Callable[[], None]]:
    """Yield what begins to listen to the server, before a commit. Raise StoreUnavailableError when
    it has warned of something then."""
    severities: list[str | None] = []

    def note(notice: Diagnostic) -> None:  # which can be read only here: libpq frees it at once
        severities.append(notice.severity_nonlocalized)

    try:
        yield lambda: connection.add_notice_handler(note)
    finally:
        with contextlib.suppress(ValueError):  # not added
            connection.remove_notice_handler(note)
    if "WARNING" in severities:
        raise StoreUnavailableError(NOT_ON_STANDBY)


def look(connection: Connection, work: Callable[[Transaction], Done], digest_key: bytes) -> Done:
    """Run `work`, which only reads, in a transaction."""
    with connection.transaction():
        return work(PostgresqlTransaction(connection, digest_key))


def lock_number(name: str) -> int:
    """Return the 64 bits by which PostgreSQL knows an advisory lock, as its function lock_number
    does. Names that share them wait for each other, which harms nobody."""
    digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], signed=True)


@functools.cache
def compiled(statement: Statement) -> Compiled:
    """Return `statement` in PostgreSQL's SQL."""
    query: Any = statement.query
    if statement.locks:
        query = query.for_update(True, skip_locked=True)
    return compile_query(query, _POSTGRESQL)


@functools.cache
def compiled_insert(statement: Statement) -> Compiled:
    """Return a statement that inserts one row, and returns its id."""
    return compile_query(_returning(statement.query), _POSTGRESQL)


@functools.cache
def compiled_lookup(lookup: Lookup) -> Compiled:
    """Return one text for any number of values: an IN that lists them would be another for each."""
    values = SQL("ANY(%s)", [Param("values")])
    query: Any = lookup.query.where(Expression(lookup.column, "=", values))
    if lookup.locks:
        query = query.for_update(True, skip_locked=True)
    return compile_query(query, _POSTGRESQL)


@functools.cache
def compiled_inserts(inserting: BulkInsert, count: int) -> Compiled:
    query: Any = inserting.query(count)
    if inserting.unique is None:
        return compile_query(_returning(query), _POSTGRESQL)
    field = inserting.model._meta.columns[inserting.unique]
    ignoring = query.on_conflict(conflict_target=[field], action="IGNORE")
    return compile_query(_returning(ignoring, field), _POSTGRESQL)


@functools.cache
def compiled_updates(changing: BulkUpdate) -> Compiled:
    """Return one text for any number of rows, which takes a list of each column's values."""
    lists = [SQL(f"%s::{_TYPES[type_]}[]") for type_ in changing.columns.values()]
    query: Any = changing.query(NodeList((SQL("SELECT * FROM"), fn.unnest(*lists))))
    return compile_query(query.returning(changing.key), _POSTGRESQL)


def _returning(query: Any, *more: Any) -> Query:
    changed: Query = query.returning(query.model.id, *more)
    return changed


class PostgresqlTransaction(Transaction):
    """See engines.engine.Transaction."""

    insert_sizes = (64, 32, 16, 8, 4, 2, 1)
    compiled = staticmethod(compiled)
    compiled_lookup = staticmethod(compiled_lookup)
    compiled_inserts = staticmethod(compiled_inserts)

    def __init__(
        self,
        connection: Connection,
        digest_key: bytes = b"",
        part: int | None = None,
        pieces: Pieces | None = None,
    ) -> None:
        """`pieces`: in which the connection sends, if it does."""
        super().__init__(connection if pieces is None else pieces, digest_key)
        self.part = PARTS + connection.info.backend_pid % PARTS if part is None else part
        self.is_far = pieces is not None

    @staticmethod
    def as_param(values: Sequence[str] | Sequence[int]) -> list[Any]:
        return list(values)

    def _ask(self, statement: Compiled, values: Mapping[str, Any]) -> Callable[[], list[Row]]:
        cursor = self._execute(statement, values)
        return lambda: list(cursor.fetchall())

    def insert(self, statement: Statement, **values: Any) -> int | None:
        row = self._execute(compiled_insert(statement), values).fetchone()
        return row[0] if row else None

    def changing_many(
        self, changing: BulkUpdate, rows: Sequence[Row]
    ) -> Callable[[], Collection[Any]]:
        if not rows:
            return lambda: ()
        compiled = compiled_updates(changing)
        values = [*map(list, zip(*rows, strict=True)), *compiled.parts]
        cursor = self.connection.execute(compiled.text, values)
        return functools.cache(lambda: {key for (key,) in cursor.fetchall()})

    def lock(self, names: Iterable[str]) -> None:
        # In one order, so that no two transactions wait for each other.
        numbers = sorted({lock_number(name) for name in names})
        if numbers:
            self.connection.execute(_LOCK, [numbers])

    def asking_lock(self, name: str) -> Callable[[], bool]:
        cursor = self.connection.execute(_TRY_LOCK, [lock_number(name)])

        def has_it() -> bool:
            [is_locked] = cursor.fetchone()
            return bool(is_locked)

        return has_it

    def _ids(self, inserting: BulkInsert, rows: Sequence[Row], cursor: Any) -> Iterable[int | None]:
        returned = cursor.fetchall()  # None for those that it left out
        if inserting.unique is None:
            return [row[0] for row in returned]  # in the order of VALUES
        by_unique = {unique: id_ for id_, unique in returned}
        place = inserting.columns.index(inserting.unique)
        return [by_unique.get(row[place]) for row in rows]
