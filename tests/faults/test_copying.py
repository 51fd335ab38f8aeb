"""The short form of the campaign of copies: `python -m tests.faults.copying`."""

import shutil
from pathlib import Path

from tests.faults.copying import Campaign
from tests.support.database import file_in, prepared_file


def test_what_has_a_copys_name_is_whole_whenever_a_backup_is_killed(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=5)
    assert campaign.run(10) == []
    assert campaign.figures["copies that were looked through"] >= 2


def test_so_are_copies_of_an_encrypted_record(tmp_path: Path) -> None:
    place = file_in(tmp_path, is_encrypted=True)
    shutil.copy(prepared_file(is_encrypted=True), tmp_path / "premblyd.db")
    campaign = Campaign(tmp_path, seed=6, place=place)
    assert campaign.run(10) == []
    assert campaign.figures["copies that were looked through"] >= 2
