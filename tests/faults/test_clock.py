"""Wall clocks that jump; with libfaketime too in `python -m tests.faults.clock`."""

import asyncio
from pathlib import Path

import pytest

from tests.faults import clock
from tests.support.logs import Lines


@pytest.mark.parametrize("by_ms", [clock.HOUR_BACK_MS, clock.DAY_FORWARD_MS])
def test_a_wall_clock_that_is_set_loses_sticks_and_hastens_nothing(
    by_ms: int, tmp_path: Path, lines: Lines
) -> None:
    assert asyncio.run(clock.jump(tmp_path, by_ms)) == []
    assert [line["by_ms"] // 1000 for line in lines if line["event"] == "clock.jumped"] == [
        pytest.approx(by_ms // 1000, abs=5)
    ]
