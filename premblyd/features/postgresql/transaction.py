"""Transactions on PostgreSQL: the record's statements in its SQL, sent in pieces, and committed."""

import contextlib
import functools
import hashlib
import select
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from peewee import SQL, Expression, NodeList, PostgresqlDatabase, Query, fn
from psycopg.abc import PipelineCommand
from psycopg.errors import Diagnostic
from psycopg.pq.abc import PGconn

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

MOST_BYTES = 8000  # of a piece: libpq writes what fills 8,192 by itself
_LONG_BYTES = 4096
_OF_MESSAGES = 64  # what they have beside names, texts and values
_OF_VALUE = 4  # each of its length, type and format
_LONG = (str, bytes, bytearray, memoryview)


def can_gather(connection: psycopg.Connection[Any]) -> bool:
    """Return whether this psycopg sends pieces as `Pieces` makes it, which knows a little of its
    inside. With another, each statement has to be waited for."""
    if not psycopg.Pipeline.is_supported():  # libpq before 14
        return False
    with connection.pipeline() as pipeline:
        pieces = Pieces(connection, pipeline)
        answer = pieces.execute("SELECT 1", prepare=False)
        is_held = pieces.is_holding
    return is_held and answer.has_come


class Pieces:
    """A connection in a pipeline. What is executed stays here until an answer is read, the piece is
    full, or the pipeline ends. Each piece is one write, and ends in a Sync.

    PostgreSQL takes a transaction for active from a client's first message until its Sync, and only
    then counts its `idle_in_transaction_session_timeout`: a process that is frozen in between
    (SIGSTOP, while its machine goes on) would keep its locks for ever. psycopg's pipeline writes
    after each statement, and asks for answers by Flush, which ends the counting as well. So psycopg
    gets a queue here that has nothing for libpq before a Sync.
    """

    def __init__(self, connection: psycopg.Connection[Any], pipeline: psycopg.Pipeline) -> None:
        self.info = connection.info
        self._connection = connection
        self._pipeline = pipeline
        pipeline.command_queue = self._calls = _Calls(connection.pgconn)

    @property
    def is_holding(self) -> bool:
        return bool(self._calls.held)

    def execute(
        self, text: str, values: Sequence[Any] | None = None, *, prepare: bool | None = None
    ) -> "Answer":
        """Have a statement run; what it fails with is raised where its piece is sent.

        One that is long is prepared. It can't go in one write, but then begins with its values, and
        while the server has but a part of these it counts.
        """
        if prepare is None and len(text) + _length(values or ()) > _LONG_BYTES:
            prepare = True
        cursor = self._connection.execute(text, values, prepare=prepare)
        while (late := self._calls.take_too_many()) is not None:
            results = self._pipeline.result_queue  # has one for each call
            awaited = [results.pop() for _ in late]
            self.send()
            self._calls.put_back(late)
            results.extend(reversed(awaited))
        return Answer(cursor, self)

    def send(self) -> None:
        """Send what is there as a piece, and wait for its answers. Raise what failed first."""
        self._pipeline.sync()


class Answer:
    """What the server says to a statement: waited for when it is read."""

    __slots__ = ("_cursor", "_pieces")

    def __init__(self, cursor: psycopg.Cursor[Any], pieces: Pieces) -> None:
        self._cursor = cursor
        self._pieces = pieces

    @property
    def has_come(self) -> bool:
        return self._cursor.pgresult is not None

    @property
    def rowcount(self) -> int:
        return self._come().rowcount

    @property
    def statusmessage(self) -> str | None:
        return self._come().statusmessage

    def fetchone(self) -> Any:
        return self._come().fetchone()

    def fetchall(self) -> list[Any]:
        return self._come().fetchall()

    def _come(self) -> psycopg.Cursor[Any]:
        if not self.has_come:
            self._pieces.send()
        return self._cursor


_Held = tuple[PipelineCommand, int]  # how many bytes it sends at most


class _Calls(deque[PipelineCommand]):
    """The queue of psycopg's calls of libpq, each of which makes messages. psycopg takes one after
    the other from it, and writes after each; here it finds a call only when a Sync has come, and
    this makes all of them."""

    def __init__(self, pgconn: PGconn) -> None:
        super().__init__()
        self._pgconn = pgconn
        self._bytes = 0
        self.held: list[_Held] = []

    def append(self, call: PipelineCommand) -> None:
        if call == self._pgconn.pipeline_sync:
            calls = [held for held, _ in self.held]
            self.held, self._bytes = [], 0
            super().append(functools.partial(self._make, [*calls, call]))
        else:
            self.put_back([(call, _size(call))])

    def put_back(self, late: Iterable[_Held]) -> None:
        self.held += late
        self._bytes += sum(size for _, size in late)

    def take_too_many(self) -> list[_Held] | None:
        """Take out the last that make a piece too long, but not its only one. None: there are
        none."""
        count = len(self.held)
        while self._bytes > MOST_BYTES and count > 1:
            count -= 1
            self._bytes -= self.held[count][1]
        late = self.held[count:]
        del self.held[count:]
        return late or None

    def _make(self, calls: Sequence[Callable[[], None]]) -> None:
        for call in calls:
            call()
        # psycopg tries once, and then waits for an answer that does not come to a half.
        while self._pgconn.flush():
            poll = select.poll()
            poll.register(self._pgconn.socket, select.POLLIN | select.POLLOUT)
            if any(event & ~select.POLLOUT for _, event in poll.poll()):
                self._pgconn.consume_input()


def _size(call: Any) -> int:
    """Return how many bytes a call sends at most, by what it is called with."""
    if not isinstance(call, functools.partial):
        return MOST_BYTES
    size = _OF_MESSAGES
    for value in (*call.args, *call.keywords.values()):
        if isinstance(value, list | tuple):
            size += _OF_VALUE * len(value) + _length(value)
        else:
            size += _length([value])
    return size


def _length(values: Iterable[Any]) -> int:
    """Return how long texts and bytes are together."""
    return sum(len(value) for value in values if isinstance(value, _LONG))


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
    """Return the 64 bits of an advisory lock in PostgreSQL, as its function lock_number makes
    them. Names that share them wait for each other, which harms nobody."""
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
    """See engine.Transaction."""

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
