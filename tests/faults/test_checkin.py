"""A dead man's switch under faults, in short; the long form is `python -m tests.faults.checkin`."""

from pathlib import Path

import pytest

from tests.faults import checkin, disk_faults
from tests.support.needs import needs_machine, needs_root


@pytest.mark.parametrize("name", checkin.FAULTS)
def test_no_heartbeat_is_later_than_two_periods_after(name: str, tmp_path: Path) -> None:
    assert checkin.on(tmp_path, checkin.FAULTS[name]) == []


@needs_root
def test_no_heartbeat_is_later_than_two_periods_after_a_full_disk() -> None:
    with needs_machine(), disk_faults.small_disk() as small:
        assert checkin.on_full_disk(small) == []


@pytest.mark.postgresql
def test_no_heartbeat_is_later_than_two_periods_after_its_server_is_gone(tmp_path: Path) -> None:
    assert checkin.without_server(tmp_path) == []


def test_none_is_missed_under_load(tmp_path: Path) -> None:
    # A busy machine may hold one up for seconds, which is little of a period.
    assert checkin.under_load(tmp_path, seconds=30, every_s=10) == []
