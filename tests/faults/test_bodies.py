"""Bodies and expressions that are much work, in short; the long form is
`python -m tests.faults.bodies`."""

from pathlib import Path

from tests.faults.bodies import MIB, endure


def test_every_body_is_stored_whatever_its_expressions_take(tmp_path: Path) -> None:
    _, problems = endure(tmp_path, 8 * MIB, rounds=1, is_asked=False)
    assert problems == []
