"""`record encrypt` is killed."""

import random
from pathlib import Path

import pytest

from tests.faults.encrypting import Campaign


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_a_killed_encrypt_leaves_one_whole_record(tmp_path: Path, is_encrypted: bool) -> None:
    campaign = Campaign(tmp_path, random.Random(1), is_encrypted=is_encrypted)
    for _ in range(6):
        assert campaign.kill() == []
