"""Hostile clients, in short; the long form is `python -m tests.faults.clients`."""

from pathlib import Path

from tests.faults.clients import endure
from tests.support.needs import needs_open_files


@needs_open_files(2500)
def test_hostile_clients_get_no_500_and_leave_nothing_behind(tmp_path: Path) -> None:
    endured = endure(tmp_path, connections=100, rounds=2, webhooks=3)
    assert endured.problems == [], endured.figures
