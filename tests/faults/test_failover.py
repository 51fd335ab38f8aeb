"""The failover campaign's short form; the long one is `python -m tests.faults.failover`."""

from pathlib import Path

import pytest

from tests.faults.failover import FailoverCampaign, pair
from tests.support.needs import needs_machine
from tests.support.postgresql import binaries

pytestmark = pytest.mark.postgresql


def test_nothing_acknowledged_is_lost_when_a_standby_takes_over(tmp_path: Path) -> None:
    with needs_machine():
        binaries()
    with pair() as servers:
        campaign = FailoverCampaign(tmp_path, 3, servers, longest_s=0.3)
        assert campaign.run(1) == []
    assert campaign.figures["events acknowledged"] > 1, "the load was no load"
    assert len(campaign.outages_s) == 1
