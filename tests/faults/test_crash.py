"""The crash campaign's short form; the long one is `python -m tests.faults.crash`."""

from pathlib import Path

from tests.faults.crash import Campaign

CYCLES = 6


def test_nothing_acknowledged_is_lost_by_a_few_kills(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=3, longest_s=0.25)
    assert campaign.run(CYCLES) == []
    assert campaign.figures["kills"] >= CYCLES
    assert campaign.figures["events acknowledged"] > CYCLES, "the load was no load"
    assert campaign.figures["attempts interrupted"], "no hook was ever killed with the daemon"
