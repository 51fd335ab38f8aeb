"""`record restore` is killed, and copies are harmed."""

import random
from pathlib import Path

import pytest

from tests.faults.restoring import Campaign


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_a_killed_restore_leaves_one_whole_record_and_harmed_copies_are_refused(
    tmp_path: Path, is_encrypted: bool
) -> None:
    campaign = Campaign(tmp_path, random.Random(1), is_encrypted=is_encrypted)
    for number in range(6):
        assert campaign.kill(is_readable=bool(number % 2)) == []
        assert campaign.harm(is_cut=bool(number % 2)) == []
