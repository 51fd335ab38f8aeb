"""The schema on a server: it is made once, in one place, and that of another build is refused."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from premblyd.features.postgresql import schema
from premblyd.features.postgresql.settings import Server
from premblyd.ground.errors import SchemaError
from tests.support import postgresql
from tests.support.needs import needs_machine
from tests.support.postgresql import rows

pytestmark = pytest.mark.postgresql

OPENERS: list[Callable[[Server], Any]] = [
    schema.prepare,
    schema.require_usable,
    lambda server: schema.connect_read_only(server).close(),
    lambda server: schema.connect_operator(server).close(),
]


@pytest.fixture(name="server")
def make_server() -> Server:
    """A database of the test's own: its schema changes."""
    with needs_machine():
        return postgresql.new_database(*postgresql.of_session())


@pytest.mark.parametrize("opener", OPENERS)
def test_the_schema_of_another_build_is_refused(
    server: Server, opener: Callable[[Server], Any]
) -> None:
    opener(server)
    postgresql.by_hand(server, "UPDATE record SET schema_digest = 'other'")
    with pytest.raises(SchemaError, match="made by another build of premblyd") as caught:
        opener(server)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("opener", OPENERS)
def test_a_schema_put_before_that_of_the_tables_begins_no_second_record(
    server: Server, opener: Callable[[Server], Any]
) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {postgresql.SUPERUSER}")  # "$user" is first
    opener(server)
    assert rows(server, "SELECT count(*) FROM pg_tables WHERE schemaname = 'tests'") == [(0,)]


def test_those_that_start_on_an_empty_database_make_it_once() -> None:
    with needs_machine():
        cluster, _ = postgresql.of_session()
    server = postgresql.new_database(cluster)
    with ThreadPoolExecutor() as pool:
        started = [pool.submit(schema.prepare, server) for _ in range(3)]
    assert sorted(each.result() for each in started) == [False, False, True]
    postgresql.by_hand(server, "DROP TABLE pause")
    postgresql.by_hand(server, "DELETE FROM schema_part WHERE feature = 'pause'")
    schema.require_usable(server)
    with ThreadPoolExecutor() as pool:
        assert not any(pool.map(schema.prepare, [server] * 3))
    schema.connect_read_only(server).close()
