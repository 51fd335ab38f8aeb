"""Times as text, and the clock."""

import time

import pytest

from premblyd.ground import times

MS = 1_700_000_000_123  # 2023-11-14T22:13:20.123Z


def test_a_time_has_one_form_for_people_one_for_programs_and_one_for_logs() -> None:
    assert times.for_people(MS) == "2023-11-14 22:13:20"
    assert times.iso(MS) == "2023-11-14T22:13:20.123000+00:00"
    assert times.log_timestamp(MS * 1_000_000 + 4567) == "2023-11-14T22:13:20.123004Z"


def test_a_time_that_no_calendar_has_is_shown_as_its_number() -> None:
    assert times.for_people(10**18) == f"{10**18} ms"
    assert times.for_people(None) == ""


def test_a_time_without_a_zone_is_utc() -> None:
    assert times.from_iso("2023-11-14") == 1_699_920_000_000
    for text in ("2023-11-14T22:13:20.123", "2023-11-14T23:13:20.123+01:00", times.iso(MS)):
        assert times.from_iso(text) == MS


def test_a_machine_s_sleep_sets_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    wall_ns, awake_ns, boot_ns = MS * 1_000_000, 0, 0
    monkeypatch.setattr(time, "time_ns", lambda: wall_ns)
    monkeypatch.setattr(time, "monotonic_ns", lambda: awake_ns)
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: boot_ns)
    clock = times.Clock()
    wall_ns, boot_ns = wall_ns + 10**12, boot_ns + 10**12
    assert (clock.now_ms(), clock.jumped_ms()) == (MS + 10**6, 0)
