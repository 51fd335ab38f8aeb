"""Hostile workers, in short; the long form is `python -m tests.faults.workers`."""

import random
from pathlib import Path

from tests.faults.workers import misbehave, survive_kills


def test_hostile_workers_harm_no_other_and_leave_nothing(tmp_path: Path) -> None:
    endured = misbehave(tmp_path)
    assert endured.problems == [], endured.figures


def test_nothing_of_a_hostile_worker_is_left_after_kills_of_the_daemon(tmp_path: Path) -> None:
    endured = survive_kills(tmp_path, 2, random.Random(1))
    assert endured.problems == [], endured.figures
