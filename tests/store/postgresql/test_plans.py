"""What a claim reads is found by the queue's index, though the server knows little of the table: it
looks at it only now and then. What people ask is planned for what they ask for."""

from contextlib import closing
from functools import partial

import pytest

from premblyd.databases import Server
from premblyd.engines.connections import connect_read_only
from premblyd.engines.engine import Statement, Transaction
from premblyd.engines.postgresql.transaction import compiled
from premblyd.queue import due
from premblyd.record import lists
from premblyd.record.filters import EventFilter
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
