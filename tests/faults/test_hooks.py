"""Hostile hooks, in short; the long form is `python -m tests.faults.hooks`."""

from pathlib import Path

from tests.faults.hooks import HOSTILE, misbehave, survive_a_kill


def test_nothing_of_a_hostile_hook_is_left_after_its_timeout(tmp_path: Path) -> None:
    endured = misbehave(tmp_path, timeout_s=0.5, gigabytes=1)
    assert endured.problems == [], endured.figures


def test_nothing_of_a_hostile_hook_is_left_after_a_kill_of_the_daemon(tmp_path: Path) -> None:
    endured = survive_a_kill(tmp_path, HOSTILE)
    assert endured.problems == [], endured.figures
