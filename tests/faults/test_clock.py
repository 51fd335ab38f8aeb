"""Wall clocks that jump; the same as `python -m tests.faults.clock`."""

from pathlib import Path

import pytest

from tests.faults import clock

pytestmark = pytest.mark.night


@pytest.mark.parametrize("by_ms", [clock.HOUR_BACK_MS, clock.DAY_FORWARD_MS])
def test_a_wall_clock_that_is_set_loses_sticks_and_hastens_nothing(
    by_ms: int, tmp_path: Path
) -> None:
    assert clock.jump_a_daemon(tmp_path, by_ms) == []


def test_a_wall_clock_that_is_set_removes_nothing(tmp_path: Path) -> None:
    assert clock.remove_by_a_wrong_clock(tmp_path) == []
