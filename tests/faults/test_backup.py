"""The short forms of the campaign of backups: `python -m tests.faults.backup`."""

from pathlib import Path

from tests.faults.backup import Campaign
from tests.support.hosts import new_server

CYCLES = 6


def test_a_copy_is_whole_or_not_there_whatever_is_killed(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=5)
    assert campaign.run(CYCLES) == []
    assert campaign.figures["people erased"] > 0
    assert campaign.figures["events put back"] > 0


def test_a_copy_without_keys_gets_them_back_whatever_is_killed(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=6, sealed=True)
    assert campaign.run(CYCLES) == []
    assert campaign.figures["people erased"] > 0
    assert campaign.figures["events put back"] > 0


def test_a_dump_is_whole_and_gets_its_keys_back_whatever_is_killed(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=7, place=new_server())
    assert campaign.run(CYCLES) == []
    assert campaign.figures["people erased"] > 0
    assert campaign.figures["events put back"] > 0
