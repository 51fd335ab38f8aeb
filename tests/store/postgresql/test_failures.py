"""What people are told of a connection that failed: never the words that the driver has for
itself."""

import psycopg
import pytest

from premblyd.databases import Server
from premblyd.engines.postgresql.failures import plain
from tests.support.database import url_of

pytestmark = pytest.mark.postgresql

LOST = "PostgreSQL can't be reached: the connection was lost"


def test_what_the_driver_cannot_do_with_a_connection_is_that_it_was_lost(server: Server) -> None:
    with psycopg.connect(url_of(server)) as connection:
        connection.pgconn.enter_pipeline_mode()
        connection.pgconn.send_query_params(b"SELECT 1", [])
        with pytest.raises(psycopg.OperationalError, match="cannot exit pipeline mode") as caught:
            connection.pgconn.exit_pipeline_mode()
        connection.close()
    assert plain(caught.value) == LOST


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", LOST),
        ("consuming input failed: server closed the connection unexpectedly\n\tThis", LOST),
        ("sending query failed: another command is already in progress", LOST),
        (
            'connection is bad: connection to server on socket "/x" failed: No such file\n\tIs it',
            'PostgreSQL can\'t be reached: connection to server on socket "/x" failed: No such'
            " file",
        ),
        (
            "connection failed: FATAL:  no\nMultiple connection attempts failed. All failures"
            " were:\n- host: 'a': connection timeout expired\n- host: 'b': connection failed:"
            " FATAL:  no",
            "PostgreSQL can't be reached: host: 'a': connection timeout expired; host: 'b':"
            " connection failed: FATAL:  no",
        ),
    ],
)
def test_only_what_the_driver_says_of_a_connection_that_it_could_not_make_is_quoted(
    said: str, told: str
) -> None:
    assert plain(psycopg.OperationalError(said)) == told
