"""The canary campaign's short form; the long one is `python -m tests.faults.canary`."""

from contextlib import ExitStack
from pathlib import Path

from tests.faults.canary import Campaign


def test_nothing_is_left_of_who_was_erased_or_pruned(tmp_path: Path) -> None:
    with ExitStack() as opened:
        campaign = Campaign(tmp_path, 7, opened)
        assert campaign.run() == []
