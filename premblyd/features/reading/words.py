"""Shares and durations, made readable for people."""

from typing import Any

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000))


def percent(rate: float | None) -> str:
    """Return a share without making 99.96 % whole: one failure is not none."""
    if rate is None:
        return "–"
    return f"{rate * 100:.0f} %" if rate in (0, 1) else f"{min(rate * 100, 99.9):.1f} %"


def duration(ms: Any) -> str:
    """Return how long something took: 12 ms, 3.4 s, 2 h 5 min; a dash for nothing."""
    if ms is None:
        return "–"
    if ms < 1000:
        return f"{max(ms, 0):.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s".replace(".0 ", " ")
    parts = []
    for unit, length in _UNITS:
        if ms >= length:
            parts.append(f"{int(ms // length)} {unit}")
            ms %= length
    return " ".join(parts[:2])
