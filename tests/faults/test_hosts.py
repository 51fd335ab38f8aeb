"""The short form of the campaign of several hosts."""

from pathlib import Path

from tests.faults.hosts import Campaign
from tests.support.hosts import new_server


def test_hosts_that_die_and_come_back_lose_nothing_and_run_nothing_twice(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, new_server(), seed=4, lost_after_s=0.5, clients=1)
    assert campaign.run(cycles=10) == []
    assert campaign.figures["hosts found lost"] > 0
    assert campaign.figures["attempts interrupted"] > 0
