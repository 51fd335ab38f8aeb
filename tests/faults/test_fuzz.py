"""Random input, in short; the long form is `python -m tests.faults.fuzz`."""

from pathlib import Path

from tests.faults.fuzz import run

CASES = 2000


def test_random_input_breaks_no_property(tmp_path: Path) -> None:
    assert sum(run(tmp_path, CASES, seed=5).values()) >= CASES
