"""The short form of the campaign of `once`."""

from pathlib import Path

from tests.faults.once import Campaign


def test_what_is_sent_again_has_one_success_through_kills(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=5, longest_s=0.3)
    assert campaign.run(cycles=3) == []
    assert campaign.figures["deliveries skipped"] > 0
