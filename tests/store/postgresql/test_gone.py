"""What a server keeps of what was erased is cleaned at once where that can be, and told."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from premblyd.databases import Server
from premblyd.engines.connections import backend
from premblyd.engines.engine import Scrubbed
from premblyd.engines.postgresql import opening
from premblyd.errors import PremblydError
from tests.support import postgresql
from tests.support.needs import needs_machine
from tests.support.postgresql import FAST, Cluster
from tests.support.store import Store
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server whose settings are changed."""
    with needs_machine():
        postgresql.binaries()
    with postgresql.cluster(**FAST) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture
def server(cluster: Cluster) -> Server:
    return postgresql.prepared_database(cluster)


def test_the_tables_are_cleaned_after_an_erasure(store: Store) -> None:
    store.add("crm", body=b"canary")
    store.by_hand("UPDATE event SET reference = NULL")
    with closing(backend(store.place).connect_operator()) as database:
        assert database.scrub() == Scrubbed(is_gone=True)
        assert database.execute_sql("SHOW statement_timeout").fetchone() == ("0",)
    cleaned = "SELECT count(*) FROM pg_stat_user_tables WHERE last_vacuum IS NOT NULL"
    wait_until(lambda: store.rows(cleaned) == [(len(opening.CLEANED),)])


def test_check_says_what_the_server_keeps_longer(cluster: Cluster, server: Server) -> None:
    inspected = backend(server).inspect()
    assert (inspected.warnings, [fact for fact in inspected.facts if "stays" in fact]) == ((), [])
    with cluster.connect() as connection:
        connection.execute("SELECT pg_create_physical_replication_slot('held', true)")
        name = server.url.partition("@/")[2].partition("?")[0]
        for setting in ("log_statement = 'all'", "log_parameter_max_length = -1"):
            connection.execute(f'ALTER DATABASE "{name}" SET {setting}')
    inspected = backend(server).inspect()
    assert any("the WAL that 1 replication slots hold" in fact for fact in inspected.facts)
    (warning,) = inspected.warnings
    assert warning.startswith("the server's log_statement writes statements with their values")
    with cluster.connect() as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET log_parameter_max_length = 0')
    assert backend(server).inspect().warnings == ()


def test_prune_says_how_a_server_is_packed(server: Server) -> None:
    for refused in (backend(server).room, backend(server).pack):
        with pytest.raises(PremblydError, match="`VACUUM FULL`, which stops all"):
            refused()
