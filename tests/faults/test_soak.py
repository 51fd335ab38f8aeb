"""The soak in short, and how it judges; the long form is `python -m tests.faults.soak`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.series import MEASURES, Measure, Sample, compare
from tests.faults.soak import Soak

MINUTES = 60
AS_EVER = {
    "memory_mib": 60.0,
    "descriptors": 30,
    "threads": 14,
    "processes": 8,
    "wal_mib": 4.0,
    "p50_ms": 3.0,
    "p99_ms": 20.0,
}


def samples(of: Callable[[int], dict[str, float]]) -> list[Sample]:
    """Return one sample for each minute, of which `of` says what is not as ever."""
    return [
        Sample(
            **{"seconds": minute * 60, "events": 0, "waiting": 0, "load": 9} | AS_EVER | of(minute)
        )
        for minute in range(MINUTES)
    ]


def test_half_a_minute_with_everything_breaks_no_promise(tmp_path: Path) -> None:
    soak = Soak(tmp_path, 3, minutes=0.5, rate=15)
    assert soak.run(with_everything=True) == []
    assert soak.figures["events acknowledged"] > 0
    assert soak.figures["kills of the daemon"] > 0
    assert soak.samples


def test_what_stays_as_it_was_after_a_sixth_of_the_time_has_not_grown() -> None:
    warming = samples(lambda minute: {"memory_mib": 30.0 + 3 * min(minute, 10)})
    lines, grown = compare(warming, MINUTES * 60)
    assert grown == []
    assert len(lines) == len(MEASURES) + 1  # and how the machine was


@pytest.mark.parametrize(
    ("measure", "name", "more"),
    list(zip(MEASURES, AS_EVER, (0.25, 0.5, 0.2, 0.3, 0.6, 0.2, 3), strict=True)),
    ids=lambda value: getattr(value, "name", None),
)
def test_what_grows_a_little_in_each_minute_is_told(
    measure: Measure, name: str, more: float
) -> None:
    _, grown = compare(samples(lambda minute: {name: AS_EVER[name] + more * minute}), MINUTES * 60)
    assert [words.partition(" grew ")[0] for words in grown] == [measure.name]
