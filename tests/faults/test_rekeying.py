"""The short form of the campaign of rekey: `python -m tests.faults.rekeying`."""

from pathlib import Path

from tests.faults.rekeying import Campaign
from tests.support.hosts import new_server

CYCLES = 9


def test_nothing_is_sealed_by_half_whatever_is_killed(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=3)
    assert campaign.run(CYCLES) == []
    assert campaign.kills.counts["rekey"] > 0


def test_two_hosts_seal_nothing_by_half(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=4, place=new_server(), hosts=2)
    assert campaign.run(CYCLES) == []
    assert campaign.kills.counts["rekey"] > 0
