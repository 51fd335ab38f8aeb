"""The clock of daemons that share a database: the database's."""

import time

from premblyd.times import SharedClock

AHEAD_MS = 5 * 60_000


def read(clock: SharedClock, ahead_ms: int, took_s: float = 0.0, *, late_s: float = 0.0) -> None:
    """Take in that the database's clock is ahead by so much, read in `took_s`; its time is of
    `late_s` before the answer."""
    answered_s = time.monotonic()
    machine_ms = time.time_ns() / 1_000_000 - late_s * 1000
    clock.follow(round(machine_ms + ahead_ms), answered_s - took_s, answered_s)


def ahead_ms(clock: SharedClock) -> float:
    return clock.now_ms() - time.time_ns() / 1_000_000


def test_it_says_what_the_databases_clock_says_and_a_reading_that_took_long_moves_nothing() -> None:
    clock = SharedClock()
    read(clock, AHEAD_MS, took_s=0.001)
    assert abs(ahead_ms(clock) - AHEAD_MS) < 60_000
    read(clock, AHEAD_MS, took_s=0.9, late_s=0.9)
    assert abs(ahead_ms(clock) - AHEAD_MS) < 60_000


def test_it_follows_another_server_at_once() -> None:
    clock = SharedClock()
    read(clock, AHEAD_MS)
    read(clock, -AHEAD_MS, took_s=0.5, late_s=0.25)
    assert abs(ahead_ms(clock) + AHEAD_MS) < 60_000


def test_what_waits_is_never_moved() -> None:
    clock = SharedClock()
    read(clock, AHEAD_MS)
    assert clock.jumped_ms() == 0
