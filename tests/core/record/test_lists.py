"""Lists by parts: every row once, in both directions, and at the end as quickly as at the top."""

import functools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from premblyd.record import lists, queries, replays
from premblyd.record.filters import DeliveryFilter, EventFilter, OperatorFilter
from premblyd.record.listing import Chosen, filters_of
from premblyd.record.lists import NEWEST, OLDEST, Cursor, Part, ReadPlan
from premblyd.record.queries import By
from premblyd.record.replays import Request
from premblyd.store.engine import Database
from premblyd.store.sqlite import opening
from premblyd.store.tables import Event
from tests.support import jobs
from tests.support.rows import for_each
from tests.support.store import NOW_MS

COUNT = 1200
LAST_MS = NOW_MS + COUNT * 1000
HOUR_MS = 3_600_000
EVENTS = """
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?)
INSERT INTO event (key, endpoint, received_at_ms, remote_ip, headers, body_bytes, body_digest,
                   verified_by, kind, response_code, detail, outcome, reference, user_ref,
                   type, doubt, body)
SELECT printf('%032x', n), 'prembly', ? + n * 1000, '192.0.2.7', '[]', 2, '', 'hmac-sha256:live',
       CASE n % 500 WHEN 0 THEN 'raw' ELSE 'api' END, CASE n % 7 WHEN 0 THEN '01' ELSE '00' END,
       CASE n % 700 WHEN 0 THEN 'Not Found' ELSE 'Successful' END,
       CASE n % 100 WHEN 0 THEN 'pending' ELSE 'verified' END, 'r-' || (n % 1000),
       CASE n % 2 WHEN 0 THEN 'User-' ELSE 'user-' END || (n % 400),
       CASE n % 2 WHEN 0 THEN 'sdk.session' ELSE 'transaction.processed' END, '', x'7b7d'
FROM number
"""
DELIVERIES = """
INSERT INTO delivery
    (event_id, action, state, due_at_ms, attempts_left, created_at_ms, finished_at_ms)
SELECT id, CASE id % 3 WHEN 0 THEN 'crm' ELSE 'archive' END,
       CASE id % 50 WHEN 0 THEN 'dead' WHEN 1 THEN 'pending' ELSE 'succeeded' END,
       CASE id % 50 WHEN 1 THEN received_at_ms END, 3, received_at_ms,
       CASE WHEN id % 50 <> 1 THEN received_at_ms END
FROM event
"""


@pytest.fixture(scope="module", name="record")
def make_record(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path = tmp_path_factory.mktemp("browsing") / "premblyd.db"
    path.write_bytes(prepared.read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(EVENTS, (COUNT, NOW_MS))
        connection.execute(DELIVERIES)
    with closing(opening.connect_read_only(path)) as database:
        yield database


SEARCHES = {
    "all": (EventFilter(), lambda n: True),
    "missing": (EventFilter(code="missing"), lambda n: False),
    "pattern": (EventFilter(type="transaction.*"), lambda n: n % 2 == 1),
    "reference": (EventFilter(reference="r-7"), lambda n: n % 1000 == 7),
    "several": (EventFilter(code="01", outcome="pending", reference="r-700"), lambda n: n == 700),
    "time": (
        EventFilter(since_ms=NOW_MS + 500_000, until_ms=NOW_MS + 900_000),
        lambda n: 500 <= n < 900,
    ),
    "time and code": (
        EventFilter(code="01", since_ms=NOW_MS + 1_100_000),
        lambda n: n % 7 == 0 and n >= 1100,
    ),
    "handled": (EventFilter(handled="dead"), lambda n: n % 50 == 0),
    "handled and done": (EventFilter(handled="succeeded"), lambda n: n % 50 > 1),
    "find a number": (EventFilter(find="700"), lambda n: n == 700),
    "find a key": (EventFilter(find="0000000A".rjust(32, "0")), lambda n: n == 10),
    "find a reference": (EventFilter(find="r-7"), lambda n: n % 1000 == 7),
    "find a person": (EventFilter(find="user-7"), lambda n: n % 400 == 7),
    "after all": (EventFilter(since_ms=NOW_MS + 10 * HOUR_MS), lambda n: False),
}
DELIVERY_SEARCHES = {
    "all": (DeliveryFilter(), lambda n: True),
    "dead of an action": (DeliveryFilter(state="dead", action="crm"), lambda n: n % 150 == 0),
    "an action": (DeliveryFilter(action="crm"), lambda n: n % 3 == 0),
}
PLANNED: list[Chosen] = [
    *(search for search, _ in (*SEARCHES.values(), *DELIVERY_SEARCHES.values())),
    DeliveryFilter(state="succeeded", type="sdk.session"),
    DeliveryFilter(state="dead", action="crm", until_ms=NOW_MS + 900_000),
    *(OperatorFilter(), OperatorFilter(part_of_id=1), OperatorFilter(action="reveal")),
]


def walk(read: Callable[[Cursor], Part], place: Cursor) -> list[int]:
    """Follow the way from the part at `place` to the other end; return the ids as they come."""
    ids: list[int] = []
    for _ in range(COUNT):
        part = read(place)
        own = [row.id for row in part.rows]
        assert own == sorted(own, reverse=True)
        if place.after is None:
            ids += own
            step = part.older
            place = Cursor(before=step)
        else:
            ids += reversed(own)
            step = part.newer
            place = Cursor(after=step)
        if step is None:
            return ids
    raise AssertionError("it goes on for ever")


@for_each(("search", "is_found"), [*SEARCHES.values(), *DELIVERY_SEARCHES.values()])
def test_both_ways_lead_by_every_row_once(
    record: Database, search: Chosen, is_found: Callable[[int], bool]
) -> None:
    expected = [number for number in range(1, COUNT + 1) if is_found(number)]

    def read(place: Cursor) -> Part:
        return lists.part(record, search, place, limit=500)

    assert walk(read, NEWEST) == expected[::-1]
    assert walk(read, OLDEST) == expected


def test_from_the_middle_both_ways_lead_to_the_ends(record: Database) -> None:
    def read(place: Cursor) -> Part:
        return lists.part(record, EventFilter(), place, limit=100)

    part = read(Cursor(before=800))
    assert (part.rows[0].id, part.rows[-1].id) == (799, 700)
    newer = read(Cursor(after=part.newer))
    assert (newer.rows[0].id, newer.rows[-1].id) == (899, 800)
    assert read(Cursor(before=newer.older)).rows == part.rows
    assert read(NEWEST).newer is None
    bottom = read(OLDEST)
    assert (bottom.rows[-1].id, bottom.older) == (1, None)


def test_a_search_that_takes_too_long_stops_and_goes_on(record: Database) -> None:
    """With a clock on which each look takes a second, one step is a part."""
    moments = iter(range(10_000))

    def read(place: Cursor) -> Part:
        query = Event.select(Event.id).from_(By(Event, None)).where(Event.kind == "raw")
        way = ReadPlan(is_whole=False)
        return lists.browse(
            record, query, Id, place, way=way, limit=100, clock=lambda: next(moments)
        )

    part = read(NEWEST)
    assert part.is_cut
    assert [row.id for row in part.rows] == [1000]
    expected = list(range(500, COUNT + 1, 500))
    assert walk(read, NEWEST) == expected[::-1]
    assert walk(read, OLDEST) == expected


def test_no_statement_of_a_whole_list_reads_more_than_a_thousand_rows(
    record: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, read = queries.rows, []

    def rows(*asked: Any) -> list[Any]:
        found = real(*asked)
        read.append(len(found))
        return found

    monkeypatch.setattr(queries, "rows", rows)
    for limit in (None, 1, 1001):
        wanted = range(COUNT, COUNT - (limit or COUNT), -1)
        assert [row.id for row in lists.rows(record, EventFilter(), limit)] == list(wanted)
    done = DeliveryFilter(state="succeeded")
    assert len(replays.find_deliveries(record, done)) == COUNT * 48 // 50
    settings = jobs.settings(jobs.endpoint(), actions=(jobs.action("other"),))
    latest = NOW_MS + (COUNT - 1000) * 1000  # when the first of 1,001 came
    request = Request(chosen=DeliveryFilter(action="other", since_ms=latest), is_new=True)
    assert len(replays.plan(record, settings, request)) == 1001
    assert max(read) == 1000


@dataclass
class Id:
    id: int


def plans(database: Database, work: Callable[[], object]) -> list[str]:
    """Return the steps by which SQLite does what `work` asks."""
    connection: sqlite3.Connection = database.connection()
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    work()
    connection.set_trace_callback(None)
    assert statements
    return [
        step
        for statement in statements
        for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
    ]


def is_slow(step: str) -> bool:
    """Return whether a step looks at a whole table, or sorts it. "some" is a part of an index."""
    return ("SCAN" in step and step != "SCAN some") or "TEMP B-TREE" in step


# A value for each filter.
OF_EVENTS: dict[str, Any] = {
    "find": "r-8", "reference": "r-8", "user_ref": "user-8", "handled": "dead", "code": "00",
    "outcome": "verified", "type": "sdk.session", "contradicted": True, "is_doubted": True,
    "since_ms": NOW_MS, "until_ms": NOW_MS + 900_000,
}  # fmt: skip
OF_DELIVERIES: dict[str, Any] = {
    "state": "dead", "action": "crm", "type": "sdk.*", "error": "exit", "is_blocked": True,
    "since_ms": NOW_MS, "until_ms": NOW_MS + 900_000, "event_id": 8, "delivery_id": 8,
    "ids": (1, 2), "contradicted": True,
}  # fmt: skip


@pytest.fixture(scope="module", name="planned", params=["", "ANALYZE;"], ids=["new", "analysed"])
def make_planned(
    record: Database, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Database]:
    """The record, with what its engine believes of it."""
    path = tmp_path_factory.mktemp("planned") / "premblyd.db"
    with closing(sqlite3.connect(path)) as connection:
        record.connection().backup(connection)
        connection.executescript(request.param)
    with closing(opening.connect_read_only(path)) as database:
        yield database


@for_each("name", ["reference", "user_ref"])
def test_two_filters_are_read_by_the_index_with_fewer_rows(planned: Database, name: str) -> None:
    search = EventFilter(**{each: OF_EVENTS[each] for each in (name, "outcome")})
    steps = plans(planned, lambda: lists.part(planned, search))
    assert any(step.startswith(f"SEARCH t1 USING INDEX event_{name} ({name}=?") for step in steps)


@for_each("place", [OLDEST, Cursor(before=800)])
@for_each("search", PLANNED)
def test_no_part_of_a_list_scans_or_sorts(planned: Database, search: Chosen, place: Cursor) -> None:
    steps = plans(planned, lambda: lists.part(planned, search, place))
    assert [step for step in steps if is_slow(step)] == []


def is_of_few(step: str, filters: tuple[str, ...]) -> bool:
    """Return whether a step reads or sorts few rows: those of an index that has no others, or those
    of filters that leave few."""
    few = {"contradicted", "is_doubted", "is_blocked", "ids", "delivery_id", "event_id"}
    if "TEMP B-TREE" in step:
        return not few.isdisjoint(filters)
    return step.endswith(("INDEX event_doubted", "INDEX inquiry_contradicted"))


@for_each(("values", "common"), [(OF_EVENTS, "outcome"), (OF_DELIVERIES, "state")])
def test_no_filter_scans_or_sorts_alone_or_with_one_that_many_rows_have(
    planned: Database, values: dict[str, Any], common: str
) -> None:
    kind: type[EventFilter | DeliveryFilter] = (
        EventFilter if values is OF_EVENTS else DeliveryFilter
    )
    for name in (each.field for each in filters_of(kind)):
        for chosen in ((name,), (name, common)):
            search = kind(**{each: values[each] for each in chosen})
            steps = plans(planned, functools.partial(lists.part, planned, search))
            slow = [step for step in steps if is_slow(step) and not is_of_few(step, chosen)]
            assert (chosen, slow) == (chosen, [])


def test_no_part_of_what_is_replayed_is_sorted(planned: Database) -> None:
    """Each part would sort all that is left, which takes time by the square of it."""
    for chosen in (
        DeliveryFilter(action="archive", since_ms=0, type="sdk.*", error="exit"),
        DeliveryFilter(state="dead", action="crm", until_ms=NOW_MS + 900_000),
        DeliveryFilter(state="pending"),
    ):
        find = functools.partial(replays.find_deliveries, planned, chosen)
        assert [step for step in plans(planned, find) if is_slow(step)] == [], chosen


def test_no_part_of_the_events_that_get_a_new_delivery_is_sorted(planned: Database) -> None:
    settings = jobs.settings(jobs.endpoint(), actions=(jobs.action("other"),))
    request = Request(chosen=DeliveryFilter(action="other", since_ms=LAST_MS), is_new=True)
    steps = plans(planned, lambda: replays.plan(planned, settings, request))
    assert [step for step in steps if "TEMP B-TREE" in step] == []
