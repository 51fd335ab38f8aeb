"""Hostile hooks, in short; the long form is `python -m tests.faults.hooks`."""

import random
from pathlib import Path

from tests.faults.hooks import HOSTILE, kill_while_hooks_start, misbehave, survive_a_kill


def test_nothing_of_a_hostile_hook_is_left_after_its_timeout(tmp_path: Path) -> None:
    endured = misbehave(tmp_path, timeout_s=8, gigabytes=1)
    assert endured.problems == [], endured.figures


def test_nothing_of_a_hostile_hook_is_left_after_a_kill_of_the_daemon(tmp_path: Path) -> None:
    endured = survive_a_kill(tmp_path, HOSTILE)
    assert endured.problems == [], endured.figures


def test_a_kill_while_hooks_start_leaves_nobody_behind(tmp_path: Path) -> None:
    endured = kill_while_hooks_start(tmp_path, 2, random.Random(1))
    assert endured.problems == [], endured.figures
