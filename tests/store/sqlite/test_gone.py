"""What was deleted is in none of the database's files any more, and its space goes back."""

import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import pytest

from premblyd.engines.engine import Scrubbed, Transaction, param, update
from premblyd.engines.sqlite import opening
from premblyd.engines.sqlite.files import SUFFIXES
from premblyd.engines.sqlite.residue import Residue, cleared, has_map
from premblyd.engines.sqlite.space import KEPT_PAGES, MARK
from premblyd.keep.emptying import empty_identities
from premblyd.model.tables import Event
from premblyd.queue.inbox import NewDelivery
from tests.support.database import rows
from tests.support.needs import needs_dbpage
from tests.support.rows import for_each
from tests.support.store import Store, new_event
from tests.support.waiting import wait_until

pytestmark = pytest.mark.sqlite
PAGE_BYTES = 4096
MAP_512 = 512 // 5 + 1  # pages of 512 bytes of which one has the map
CHANGE = update(Event, "reference", where=Event.id == param("id"))


def test_space_goes_back_to_the_disk_while_webhooks_come(store: Store) -> None:
    store.rested.rests = False
    for number in range(40):
        store.add("crm", body=b"%d" % number + b"x" * 100_000)
    [(full,)] = store.rows("PRAGMA page_count")
    store.by_hand("DELETE FROM delivery WHERE event_id <= 39")
    store.by_hand("DELETE FROM event WHERE id <= 39")
    for number in range(5):  # the first makes the writer look, and the rest comes meanwhile
        assert store.add("crm", body=b"next %d" % number).is_new
    left = full - 39 * (100_000 // PAGE_BYTES) + KEPT_PAGES
    wait_until(lambda: store.path.stat().st_size <= left * PAGE_BYTES)
    assert store.rows("PRAGMA freelist_count") <= [(KEPT_PAGES,)], "some are kept"
    assert store.rows("PRAGMA integrity_check") == [("ok",)]
    assert len(store.bodies()) == 6


def test_a_new_database_gives_space_back_and_is_marked(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    opening.prepare(path)
    assert rows(path, "PRAGMA auto_vacuum") == [(2,)]
    assert rows(path, "PRAGMA application_id") == [(MARK,)]


def test_a_database_from_before_gives_nothing_back_and_goes_on(
    tmp_path: Path, store: Store
) -> None:
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("CREATE TABLE other (x)")
    opening.prepare(old)
    assert rows(old, "PRAGMA auto_vacuum") == [(0,)]


def test_each_connection_that_writes_overwrites_what_it_deletes(store: Store) -> None:
    connections = [opening.connect(store.path), opening.connect_operator(store.path)]
    for database in connections:
        with closing(database):
            assert database.execute_sql("PRAGMA secure_delete").fetchone() == (1,)
    assert store.on_connection(
        lambda connection: connection.execute("PRAGMA secure_delete").fetchone()
    ) == (1,)


def files_of(store: Store) -> bytes:
    """All bytes of the database's files."""
    found = [store.path.with_name(f"{store.path.name}{suffix}") for suffix in SUFFIXES]
    return b"".join(file.read_bytes() for file in found if file.exists())


def pages_of(path: Path) -> list[bytes]:
    """All but the first two, which is no page of rows alone, and the first map of pages."""
    content = path.read_bytes()[2 * PAGE_BYTES :]
    return [content[at : at + PAGE_BYTES] for at in range(0, len(content), PAGE_BYTES)]


def scrub(store: Store) -> Scrubbed:
    with closing(opening.connect_operator(store.path)) as database:
        return database.scrub()


def scrub_in_the_end(store: Store) -> None:
    """Scrub as often as it takes: while the writer gives space back, it may hold the log each time
    that a busy machine lets us look."""
    wait_until(lambda: scrub(store).is_gone)


def fill(store: Store, count: int) -> None:
    """Store webhooks whose names come in no order, so that pages of indexes are split; every fifth
    has a canary in all that it holds of a person."""
    random = Random(18)
    for start in range(0, count, 20):
        added = []
        for number in range(start, start + 20):
            canary = f"canary-{number:05d}" if number % 5 == 0 else f"others-{number:05d}"
            names = {
                name: f"{random.getrandbits(64):016x}-{canary}-{name}" * 3
                for name in ("reference", "user_ref", "session_id", "detail")
            }
            body = f"{canary} body ".encode() * random.choice((3, 30, 200, 2_000))
            added.append(store.inbox.add(new_event(body, **names), [NewDelivery("crm", 1)]))
        store.wait_all(added)


@needs_dbpage
@pytest.mark.parametrize("ends_first", [False, True])
def test_of_who_was_erased_no_byte_is_left_in_any_file(store: Store, ends_first: bool) -> None:
    """Also where SQLite copied rows from one page to another, by the daemon's writer and after it
    has ended."""
    fill(store, 400)
    store.add("crm", body=b"canary-photo " * 400_000)
    assert files_of(store).count(b"canary-") > 400_000
    ids = [*range(1, 401, 5), 401]
    store.wait(store.writer.call(lambda transaction: empty_identities(transaction, ids)))
    if ends_first:
        store.close()
    scrub_in_the_end(store)
    assert b"canary-" not in files_of(store)
    assert b"others-00001" in files_of(store)
    assert rows(store.path, "PRAGMA integrity_check") == [("ok",)]


@needs_dbpage
def test_no_page_keeps_what_was_moved_to_another(store: Store) -> None:
    schema = {page for page in pages_of(store.path) if cleared(page)}  # as migrations left it
    fill(store, 300)
    store.close()
    assert {page for page in pages_of(store.path) if cleared(page)} <= schema


@needs_dbpage
def test_no_page_keeps_it_when_sqlite_begins_the_log_anew_by_itself(store: Store) -> None:
    """As it does when the log is long, whatever the writer has looked at."""
    schema = {page for page in pages_of(store.path) if cleared(page)}
    fill(store, 100)  # fewer than the writer looks at by itself
    many = [b"makes it long" * 2_000_000, *(b"%d" % number for number in range(4))]
    store.wait_all([store.inbox.add(new_event(body), []) for body in many])
    fill(store, 20)
    store.close()
    assert {page for page in pages_of(store.path) if cleared(page)} <= schema


@needs_dbpage
def test_pages_are_cleared_soon_when_nothing_more_comes(store: Store) -> None:
    """However few webhooks came."""
    store.rested.rests = False
    texts: list[str] = []
    store.on_connection(lambda connection: connection.set_trace_callback(texts.append))
    fill(store, 100)
    wait_until(lambda: any("UPDATE sqlite_dbpage" in text for text in list(texts)))


def test_who_reads_what_was_there_before_is_named(store: Store) -> None:
    store.add("crm", body=b"canary-body")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM event").fetchone()
        store.wait(store.writer.call(lambda transaction: empty_identities(transaction, [1])))
        scrubbed = scrub(store)
        assert (scrubbed.is_gone, scrubbed.readers) == (False, (os.getpid(),))
        assert store.add("crm", body=b"another").is_new, "webhooks come all the same"
    scrub_in_the_end(store)
    assert b"canary-" not in files_of(store)


def leaf(
    *cells: bytes,
    middle: bytes = b"",
    kind: int = 13,
    count: int | None = None,
    size: int = PAGE_BYTES,
) -> bytes:
    """Make a page of rows, with these bytes in its free middle."""
    content = b"".join(cells)
    start = size - len(content)
    places = [start + sum(map(len, cells[:number])) for number in range(len(cells))]
    count = len(cells) if count is None else count
    head = struct.pack(f">BHHHB{len(cells)}H", kind, 0, count, start, 0, *places)
    return head + middle.rjust(start - len(head), b"\0") + content


def test_only_the_free_middle_of_a_page_of_rows_is_cleared() -> None:
    assert cleared(leaf(b"row", b"other", middle=b"left")) == leaf(b"row", b"other")
    assert cleared(leaf(b"row", b"other")) is None
    assert cleared(leaf(middle=b"left", kind=10)) == leaf(kind=10)


NO_PAGES_OF_ROWS = (
    leaf(b"row", middle=b"left", kind=5),  # a table's inner page: numbers alone
    leaf(b"row", middle=b"left", kind=0),
    leaf(b"row", middle=b"left", count=2),  # of a pointer to nowhere
    leaf(b"row", middle=b"left", count=9_000),
    b"\x0d" * PAGE_BYTES,
    b"\x02" + b"\0\0\0\x09" * 1023 + b"abc",  # a map of pages
)


@for_each("page", NO_PAGES_OF_ROWS)
def test_a_page_of_another_kind_is_left_alone(page: bytes) -> None:
    assert cleared(page) is None


@needs_dbpage
def test_a_command_leaves_nothing_in_pages_either(store: Store) -> None:
    """Also when no daemon runs that would clear them."""
    fill(store, 300)
    store.close()
    random = Random(18)
    with closing(opening.connect_operator(store.path)) as database:
        for number in range(1, 300):
            name = f"{random.getrandbits(64):016x}-of-a-command" * 4
            database.transact(
                partial(Transaction.change, statement=CHANGE, reference=name, id=number)
            )
    left = [page for page in pages_of(store.path) if cleared(page)]
    assert not [page for page in left if b"-of-a-command" in page or b"others-" in page]


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def test_a_webhook_is_stored_where_sqlite_lets_nobody_clear_pages(store: Store) -> None:
    """What is left in pages is no reason to refuse a webhook."""

    def refuse(connection: sqlite3.Connection) -> None:
        connection.set_authorizer(
            lambda action, table, *_: (
                sqlite3.SQLITE_DENY
                if (action, table) == (sqlite3.SQLITE_UPDATE, "sqlite_dbpage")
                else sqlite3.SQLITE_OK
            )
        )

    store.on_connection(refuse)
    fill(store, 300)
    assert len(store.bodies()) == 300


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Of a database in whose log nobody else writes, with a table of names in no order."""
    with closing(sqlite3.connect(tmp_path / "pages.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("PRAGMA auto_vacuum = incremental")
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA synchronous = off")
        connection.execute("PRAGMA cache_size = 10")  # so pages are in the log before a COMMIT
        connection.execute("CREATE TABLE name (name PRIMARY KEY, body) WITHOUT ROWID")
        yield connection


def put(connection: sqlite3.Connection, start: int, count: int, body: bytes = b"") -> None:
    random = Random(start)
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO name VALUES (?, ?)",
        [(f"{random.getrandbits(99):x}", body) for _ in range(count)],
    )


def left_in(path: Path) -> set[int]:
    """The numbers of the pages that have something left in them, but for the schema's."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(truncate)")
        pages = connection.execute("SELECT pgno, data FROM sqlite_dbpage WHERE pgno > 1").fetchall()
    return {number for number, page in pages if (number - 2) % MAP_512 and cleared(page)}


def clear_all(connection: sqlite3.Connection, residue: Residue) -> None:
    residue.look()
    connection.execute("BEGIN IMMEDIATE")
    residue.clear(connection)
    connection.execute("COMMIT")


@needs_dbpage
def test_what_is_left_is_found_after_a_transaction_that_was_rolled_back(
    connection: sqlite3.Connection, tmp_path: Path
) -> None:
    """Of that, the log has pages that the next one overwrites."""
    path = tmp_path / "pages.db"
    residue = Residue()
    residue.open(log_of(path), connection)
    put(connection, 1, 2_000)
    residue.look()
    connection.execute("ROLLBACK")
    put(connection, 2, 500)
    connection.execute("COMMIT")
    clear_all(connection, residue)
    residue.close()
    assert left_in(path) == set()


@needs_dbpage
def test_a_page_beside_a_map_is_cleared_too(connection: sqlite3.Connection, tmp_path: Path) -> None:
    path = tmp_path / "pages.db"
    residue = Residue()
    residue.open(log_of(path), connection)
    put(connection, 1, 9_000)
    connection.execute("COMMIT")
    beside = [number for number in left_in(path) if (number - 3) % MAP_512 == 0]
    assert beside, "there is such a page"
    residue.pages.update(beside)
    clear_all(connection, residue)
    residue.close()
    assert not left_in(path) & set(beside)


@needs_dbpage
def test_bodies_that_look_like_pages_of_rows_are_left_alone(
    connection: sqlite3.Connection, tmp_path: Path
) -> None:
    """Whoever sends a body decides what its pages begin with, but for their first four bytes."""
    path = tmp_path / "pages.db"
    page = leaf(b"row", middle=b"left", size=508)
    bodies = [page[skipped:] + page * 5 for skipped in range(0, 509, 4)]
    for number, body in enumerate(bodies):
        put(connection, number, 1, body)
        connection.execute("COMMIT")
    residue = Residue()
    residue.open(log_of(path), connection)
    residue.pages.update(range(2, 5_000))
    clear_all(connection, residue)
    residue.close()
    assert sorted(connection.execute("SELECT body FROM name")) == sorted((x,) for x in bodies)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@needs_dbpage
def test_a_database_whose_pages_end_in_bytes_of_others_is_left_alone(tmp_path: Path) -> None:
    """Its maps of pages are elsewhere."""
    path = tmp_path / "reserved.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as empty:
        empty.execute("PRAGMA page_size = 512")
        empty.execute("VACUUM")
    page = bytearray(path.read_bytes())
    page[20] = 8  # of each page
    page[105:107] = (512 - 8).to_bytes(2)  # where the first cell of page 1 will end
    path.write_bytes(page)
    residue = Residue()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE name (name PRIMARY KEY, body) WITHOUT ROWID")
        residue.open(log_of(path), connection)
        put(connection, 1, 500)
        connection.execute("COMMIT")
        residue.look()
        assert residue.pages == set()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert left_in(path), "there would be some"


def test_each_map_of_pages_is_where_sqlite_has_it() -> None:
    """Behind the page that is never used, where that is in its place."""
    assert [number for number in range(2, 2_000) if has_map(number, 4096)] == [2, 822, 1642]
    of_1024 = [2 + (1024 // 5 + 1) * number for number in range(5_200)]
    unused = (1 << 30) // 1024 + 1
    assert unused in of_1024
    assert [number for number in of_1024 if not has_map(number, 1024)] == [unused]
    assert has_map(unused + 1, 1024)
