"""A network to the database that says nothing, and is not known to be cut."""

from pathlib import Path

import pytest

from tests.support.daemon import Premblyd
from tests.support.hosts import cabled
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgresql

TOLD = "webhook.unavailable"


def test_webhooks_are_answered_in_time_although_the_database_says_nothing(tmp_path: Path) -> None:
    """A process, for its connections, its threads and its deadlines must work together."""
    with (
        cabled() as (cable, _, behind),
        Premblyd(tmp_path, place=behind, answer_within="500ms") as daemon,
    ):
        daemon.start()
        # A busy machine may take longer than half a second.
        wait_until(lambda: daemon.send(b'{"reference": "r-1"}').status == 200)
        daemon.logged("webhook.received")
        before = len(daemon.log(TOLD))
        cable.cut()
        # What the transaction has begun with, and what waits behind it.
        answers = [daemon.send(b'{"reference": "r-%d"}' % number) for number in (2, 3)]
        assert [answer.status for answer in answers] == [503, 503]
        told = wait_until(lambda: lines if len(lines := daemon.log(TOLD)[before:]) == 2 else [])
        assert [line["after_ms"] for line in told] == [500, 500]
        assert daemon.log("store.unavailable") == [], "that takes 10 s"
        cable.mend()
        wait_until(lambda: daemon.send(b'{"reference": "r-3"}').status == 200)
        daemon.wait_for_rows([(1,)], "SELECT count(*) FROM event WHERE reference = 'r-3'")
