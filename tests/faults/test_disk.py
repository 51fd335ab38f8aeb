"""Failing disks, in short; the long form is `python -m tests.faults.disk`."""

from pathlib import Path

import pytest

from tests.faults import disk, disk_faults
from tests.support.needs import needs_machine, needs_root


# The others are in the long form: for SQLite one failing write is like another.
@pytest.mark.parametrize("name", ["EIO on fsync", "ENOSPC on write", "moved away"])
def test_nothing_is_acknowledged_that_is_not_on_the_disk_when(name: str, tmp_path: Path) -> None:
    fault, seconds = disk.FAULTS[name]
    with needs_machine():
        assert disk.on(tmp_path, fault, seconds / 2).problems == []


def test_a_locked_database_refuses_sends_no_heartbeat_and_recovers(tmp_path: Path) -> None:
    assert disk.on(tmp_path, disk_faults.locked, 2.5 * disk.CHECKIN_S).problems == []


@needs_root
def test_a_full_disk_refuses_and_recovers() -> None:
    with needs_machine(), disk_faults.small_disk() as small:
        assert disk.on_full_disk(small).problems == []


@needs_root
def test_a_full_disk_stops_the_start_with_a_clear_message() -> None:
    with needs_machine(), disk_faults.small_disk() as small:
        status, said = disk.start_on_full_disk(small)
    assert status == 75
    assert "\nThe database could not commit: the disk is full; free space" in said


def test_a_removed_database_is_never_written_again_and_a_restart_makes_a_new_one(
    tmp_path: Path,
) -> None:
    assert disk.on_removed_file(tmp_path) == []
