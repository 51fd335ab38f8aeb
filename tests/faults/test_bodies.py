"""Bodies and expressions that are much work, in short; the long form is
`python -m tests.faults.bodies`."""

from pathlib import Path

from tests.faults.bodies import MIB, endure

HELD_MS = 100.0  # of the processor; reading one such body on the loop takes more


def test_no_body_and_no_expression_holds_the_loop(tmp_path: Path) -> None:
    stood, problems = endure(tmp_path, 8 * MIB, rounds=1, is_asked=False)
    assert problems == []
    assert {name: ms for name, figures in stood.items() if (ms := figures.held_ms) > HELD_MS} == {}
