"""`premblyd sql` on a server."""

import json
from pathlib import Path

import pytest

from tests.support import postgresql
from tests.support.commands import json_of, run
from tests.support.configuration import configuration
from tests.support.database import by_hand, rows, url_of
from tests.support.needs import needs_machine
from tests.support.rows import for_each

ON_POSTGRESQL = (
    "SELECT 1; COMMIT; BEGIN READ WRITE; DELETE FROM pause; COMMIT",
    "DO $$ BEGIN SET default_transaction_read_only = off; COMMIT; DELETE FROM pause; END $$",
    "SET default_transaction_read_only = off",
    "WITH gone AS (DELETE FROM pause RETURNING id) SELECT count(*) FROM gone",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT nextval('event_id_seq')",
)


def refused(config: Path, query: str, *more: object) -> str:
    """Return why a query was refused."""
    done = run("sql", query, *more, "--config", config)
    assert (done.code, done.out) == (1, "")
    return done.err


@pytest.mark.postgresql
@for_each("query", ON_POSTGRESQL)
def test_nor_does_a_server_by_any_statement_that_ends_the_reading(
    tmp_path: Path, query: str
) -> None:
    with needs_machine():
        place = postgresql.new_database(*postgresql.of_session())
    config = tmp_path / "premblyd.yaml"
    config.write_text(json.dumps(configuration(database=url_of(place))))
    assert json_of(config, "sql", "SELECT count(*) AS n FROM pause") == [{"n": 0}]
    by_hand(place, "INSERT INTO pause (action, since_ms) VALUES ('crm', 9)", unchecked=True)
    assert refused(config, query).startswith("The query failed: ")
    assert rows(place, "SELECT action, since_ms FROM pause") == [("crm", 9)]
