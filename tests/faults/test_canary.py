"""The canary campaign's short form; the long one is `python -m tests.faults.canary`."""

from contextlib import ExitStack
from pathlib import Path

from tests.faults.canary import BY_REKEY, FROM_START, WITH_NAMES, Campaign
from tests.support.hosts import new_server


def test_nothing_of_what_is_sealed_is_in_any_file(tmp_path: Path) -> None:
    with ExitStack() as opened:
        campaign = Campaign(tmp_path, 8, opened, sealed=FROM_START)
        assert campaign.run() == []


def test_no_name_is_in_any_file_either(tmp_path: Path) -> None:
    with ExitStack() as opened:
        campaign = Campaign(tmp_path, 11, opened, sealed=WITH_NAMES)
        assert campaign.run() == []


def test_nothing_of_what_was_sealed_later_is_in_any_file(tmp_path: Path) -> None:
    with ExitStack() as opened:
        campaign = Campaign(tmp_path, 9, opened, sealed=BY_REKEY)
        assert campaign.run() == []


def test_nothing_is_left_of_who_was_erased_or_pruned(tmp_path: Path) -> None:
    with ExitStack() as opened:
        campaign = Campaign(tmp_path, 7, opened)
        assert campaign.run() == []


def test_nothing_of_who_was_erased_comes_back_with_a_dump(tmp_path: Path) -> None:
    with ExitStack() as opened:
        campaign = Campaign(tmp_path, 10, opened, place=new_server(), sealed=FROM_START)
        assert campaign.run() == []
