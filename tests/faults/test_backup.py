"""The short form of the campaign of backups: `python -m tests.faults.backup`."""

from pathlib import Path

from tests.faults.backup import Campaign

CYCLES = 6


def test_a_copy_is_whole_or_not_there_whatever_is_killed(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=5)
    assert campaign.run(CYCLES) == []
    assert campaign.figures["people erased"] > 0
    assert campaign.figures["events put back"] > 0
