"""Hostile values through everything that shows or uses them."""

from pathlib import Path

from tests.faults.values import endure


def test_no_value_of_a_webhook_is_executed_split_interpreted_or_logged(tmp_path: Path) -> None:
    assert endure(tmp_path) == []
