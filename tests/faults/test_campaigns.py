"""Short forms of campaigns; the long ones are `python -m tests.faults.NAME`."""

import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults import copying, crash, encrypting, hosts, keeping, restoring
from tests.support.database import file_in, prepared_file
from tests.support.hosts import new_server


def copying_an_encrypted_record(at: Path) -> copying.Campaign:
    place = file_in(at, is_encrypted=True)
    shutil.copy(prepared_file(is_encrypted=True), at / "premblyd.db")
    return copying.Campaign(at, seed=6, place=place)


COPIED = {"copies that were looked through": 2}
REMOVED = {"events erased": 1, "events removed": 1}
KILLED = {
    "kills": 6,
    "events acknowledged": 24,
    "attempts interrupted": 1,
    "deliveries skipped": 1,
    "answers of Prembly's stored": 1,
}
LOST = {"hosts found lost": 1, "attempts interrupted": 1}
# What makes each, its cycles, and how much must have happened, or it was no campaign.
SHORT: list[tuple[Callable[[Path], Any], int, Mapping[str, int]]] = [
    (lambda at: copying.Campaign(at, seed=5), 10, COPIED),
    (copying_an_encrypted_record, 10, COPIED),
    (lambda at: crash.Campaign(at, seed=3, longest_s=0.25), 6, KILLED),
    (lambda at: hosts.Campaign(at, new_server(), seed=4, lost_after_s=0.5, clients=1), 6, LOST),
    (lambda at: keeping.Campaign(at, seed=3), 12, REMOVED),
    (lambda at: keeping.Campaign(at, seed=4, place=new_server(), hosts=2), 12, REMOVED),
]
NAMES = "copies|encrypted copies|crash|hosts|keeping|keeping by two hosts".split("|")
AT_NIGHT = ("encrypted copies", "keeping by two hosts")
ROWS = [
    pytest.param(*row, id=name, marks=[pytest.mark.night] if name in AT_NIGHT else [])
    for name, row in zip(NAMES, SHORT, strict=True)
]


@pytest.mark.parametrize(("make", "cycles", "least"), ROWS)
def test_no_promise_is_broken_by_kills(
    tmp_path: Path, make: Callable[[Path], Any], cycles: int, least: Mapping[str, int]
) -> None:
    campaign = make(tmp_path)
    assert campaign.run(cycles) == []
    assert all(campaign.figures[name] >= count for name, count in least.items()), campaign.figures


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_killed_commands_leave_one_whole_record_and_harmed_copies_are_refused(
    tmp_path: Path, is_encrypted: bool
) -> None:
    (other := tmp_path / "other").mkdir()
    restores = restoring.Campaign(tmp_path, random.Random(1), is_encrypted=is_encrypted)
    encrypts = encrypting.Campaign(other, random.Random(1), is_encrypted=is_encrypted)
    for number in range(6):
        assert restores.kill(is_readable=bool(number % 2)) == []
        assert restores.harm(is_cut=bool(number % 2)) == []
        assert encrypts.kill() == []
