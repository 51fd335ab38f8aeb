"""What a claim reads is found by the queue's index, though the server knows little of the table: it
looks at it only now and then. What people ask is planned for what they ask for."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial

import psycopg
import pytest

from premblyd.config.retention import Retention
from premblyd.databases import Server
from premblyd.engines.connections import connect_read_only
from premblyd.engines.engine import Database, Statement, Transaction
from premblyd.engines.postgresql.transaction import compiled
from premblyd.queue import due
from premblyd.record import lists
from premblyd.record.filters import DeliveryFilter, EventFilter
from premblyd.record.forecast import forecast
from tests.support.store import NOW_MS, Store

pytestmark = pytest.mark.postgresql
FILL = """INSERT INTO delivery (event_id, action, state, due_at_ms, attempts_left, created_at_ms)
    SELECT 1, (ARRAY['crm', 'a', 'b', 'c', 'd'])[mod(number, 5) + 1], 'pending', ?, 3, 0
    FROM generate_series(1, 20000) AS number"""
VALUES = {
    "worker": "x",
    "action": "crm",
    "now_ms": NOW_MS + 9,
    "limit": 50,
    "after_ms": NOW_MS,
    "after_id": 500,
}


@pytest.mark.parametrize("analyzed", ["before", "after"])
def test_a_claim_reads_by_the_index_though_the_server_knows_little(
    store: Store, analyzed: str
) -> None:
    store.add("crm")
    if analyzed == "before":
        store.by_hand("ANALYZE")
    store.by_hand(FILL, NOW_MS)
    if analyzed == "after":
        store.by_hand("ANALYZE")
    for name in ("WAITING_ACTIONS", "DUE", "DUE_BEHIND", "FIRST_DUE"):
        plan = store.call(partial(explained, getattr(due, name)))
        assert "using delivery_queue on delivery t1" in plan, plan
        assert not any(word in plan for word in ("Bitmap", "Sort", "Seq Scan on delivery")), plan


def explained(statement: Statement, transaction: Transaction) -> str:
    """Return how the server finds the rows of a statement on the writer's own connection."""
    query = compiled(statement)
    found = transaction.connection.execute("EXPLAIN " + query.text, query.bind(VALUES))
    return "\n".join(line for (line,) in found.fetchall())


# The first 500 events are old. Each has a delivery, of which the last 1,000 wait.
GROWN = """INSERT INTO event (key, endpoint, received_at_ms, remote_ip, headers, body_bytes,
        body_digest, verified_by, kind, outcome, type, doubt, body)
    SELECT number::text, 'prembly', CASE WHEN number > 500 THEN {now} ELSE 0 END + number, '', '',
        0, '', '', 'api', 'verified', 'unknown', '', '' FROM generate_series(1, 20000) AS number;
INSERT INTO delivery (event_id, action, state, due_at_ms, finished_at_ms, attempts_left,
        created_at_ms)
    SELECT id, 'crm', CASE WHEN id > 19000 THEN 'pending' ELSE 'succeeded' END,
        CASE WHEN id > 19000 THEN 0 END, CASE WHEN id <= 19000 THEN 0 END, 3, 0 FROM event
        ORDER BY id;
ANALYZE"""
READ = """SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables
    WHERE relname = 'delivery'"""


@pytest.fixture
def grown(server: Server) -> Iterator[Database]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for sql in GROWN.format(now=NOW_MS).split(";"):
            connection.execute(sql.encode())
    with closing(connect_read_only(server)) as database, database.atomic():
        yield database


def read(database: Database) -> int:
    """Return how many deliveries the server has looked at in this transaction."""
    (count,) = database.execute_sql(READ).fetchone()
    return int(count)


def test_what_waits_at_the_end_of_all_is_not_looked_for_from_the_beginning(grown: Database) -> None:
    """The server takes rows of a state to be everywhere, and would read all to find 50."""
    part = lists.part(grown, DeliveryFilter(state="pending"), lists.OLDEST)
    assert [row.id for row in part.rows] == list(range(19050, 19000, -1))
    assert read(grown) < 5000


def test_a_forecast_looks_at_no_deliveries_but_those_of_what_is_over(grown: Database) -> None:
    found = forecast(grown, Retention.model_validate({"record": "30d"}), NOW_MS + 1)
    assert sum(each.count for each in found.going) == 500
    assert read(grown) < 5000


def test_what_people_ask_often_is_planned_for_its_values(server: Server) -> None:
    """A plan for all values reads the whole table for a rare one."""
    chosen = EventFilter(code="77", outcome="pending")
    with closing(connect_read_only(server)) as database:
        for _ in range(12):  # psycopg prepares the sixth, the server keeps a plan after five more
            lists.part(database, chosen)
        kept = database.execute_sql(
            "SELECT sum(generic_plans), sum(custom_plans) > 0 FROM pg_prepared_statements"
            " WHERE cardinality(parameter_types) > 0"  # without values there is but one plan
        )
        assert kept.fetchall() == [(0, True)]
