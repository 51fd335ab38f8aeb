"""The short forms of the campaign of what is kept: `python -m tests.faults.keeping`."""

from pathlib import Path

from tests.faults.keeping import Campaign
from tests.support.hosts import new_server

CYCLES = 12


def test_nothing_is_erased_or_removed_by_half_whatever_is_killed(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=3)
    assert campaign.run(CYCLES) == []
    assert campaign.figures["events erased"] > 0
    assert campaign.figures["events removed"] > 0


def test_two_hosts_erase_and_remove_nothing_by_half(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=4, place=new_server(), hosts=2)
    assert campaign.run(CYCLES) == []
    assert campaign.figures["events erased"] > 0
    assert campaign.figures["events removed"] > 0
