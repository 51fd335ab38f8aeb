"""The reconciliation's campaign in short; the long one is `python -m tests.faults.reconcile`."""

from pathlib import Path

from tests.faults.reconcile import Campaign
from tests.support.prembly_api import prembly_api


def test_what_never_came_is_made_good_though_it_is_killed(tmp_path: Path) -> None:
    with prembly_api() as api:
        campaign = Campaign(tmp_path, api, 3, rate=150)
        assert campaign.run(entries=600, missing=30, kills=1) == []
    assert 0 < int(str(campaign.figures["stored by the last run"])) < 30
