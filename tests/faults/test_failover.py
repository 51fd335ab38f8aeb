"""The failover campaign's short form; the long one is `python -m tests.faults.failover`."""

import json
from pathlib import Path

import pytest

from tests.faults.failover import FailoverCampaign, pair
from tests.support.configuration import shell
from tests.support.hosts import hosts
from tests.support.needs import needs_machine
from tests.support.postgresql import binaries
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgresql

EVENTS = 40  # more than the numbers that PostgreSQL takes at once: 32
RUNNING = "SELECT id FROM delivery WHERE state = 'running' ORDER BY id"


def test_nothing_acknowledged_is_lost_when_a_standby_takes_over(tmp_path: Path) -> None:
    with needs_machine():
        binaries()
    with pair() as servers:
        campaign = FailoverCampaign(tmp_path, 3, servers, longest_s=0.3)
        assert campaign.run(1) == []
    assert campaign.figures["events acknowledged"] > 1, "the load was no load"
    assert len(campaign.outages_s) == 1


def test_after_a_failover_that_lost_events_no_late_report_ends_another(tmp_path: Path) -> None:
    """Of an asynchronous standby. What it had not got is lost; the new primary gives the same
    numbers again, to other events."""
    with needs_machine():
        binaries()
    runs = tmp_path / "runs"
    runs.touch()
    # Each hook says which delivery it is, and waits until those of its kind may end.
    script = f"""
kind=${{PREMBLY_REFERENCE%%-*}}
echo "$kind $PREMBLY_DELIVERY $PREMBLY_ATTEMPT" >> {runs}
while ! test -e {tmp_path}/$kind; do sleep 0.2; done
"""
    actions = [shell("wait", script, concurrency=EVENTS)]
    patient = {"lost_after": "1h"}

    def running(kind: str) -> set[tuple[int, int]]:
        lines = [line.split() for line in runs.read_text().splitlines()]
        return {(int(delivery), int(attempt)) for each, delivery, attempt in lines if each == kind}

    def body(kind: str, number: int) -> bytes:
        verification = {"status": "VERIFIED", "reference": f"{kind}-{number}"}
        return json.dumps({"response_code": "00", "verification": verification}).encode()

    with (
        pair(is_synchronous=False) as servers,
        hosts(tmp_path, "a", server=servers.place, actions=actions, hosts=patient) as (late,),
    ):
        servers.leave_standby_behind()
        for number in range(EVENTS):
            assert late.send(body("old", number)).status == 200
        wait_until(lambda: len(running("old")) == EVENTS)
        servers.fail_over()
        with hosts(tmp_path, "b", server=servers.place, actions=actions, hosts=patient) as (other,):
            for number in range(EVENTS):
                assert other.send(body("new", number)).status == 200
            wait_until(lambda: len(running("new")) == EVENTS)
            assert running("old") & running("new"), "no number was given again"
            before = other.rows(RUNNING)
            assert len(before) == EVENTS
            (tmp_path / "old").touch()
            wait_until(lambda: len(late.log("attempt.lease_lost")) == EVENTS)
            assert other.rows(RUNNING) == before
            (tmp_path / "new").touch()
            other.wait_for_rows(
                [("succeeded", EVENTS)], "SELECT state, count(*) FROM delivery GROUP BY 1"
            )
