"""The daemon's loop that removes what is over."""

import pytest

from premblyd.features.keeping import daemon
from premblyd.features.keeping.daemon import Sweeping
from premblyd.features.keeping.settings import Retention
from premblyd.ground.times import DAY_MS, HOUR_MS
from premblyd.queue.heartbeat import Heartbeat
from tests.support.clock import SettableClock
from tests.support.logs import Lines
from tests.support.store import Store, new_rejection


def loop_of(
    store: Store, clock: SettableClock, *, is_leader: bool = True, **periods: str
) -> Sweeping:
    made = Sweeping(store.writer, clock, is_leader=lambda: is_leader)
    made.configure(Retention.model_validate({"body": "1h", **periods}))
    return made


def add_old(store: Store, clock: SettableClock, count: int = 1) -> None:
    for _ in range(count):
        number = len(store.rows("SELECT id FROM event"))
        store.add(body=b"%d" % number, received_at_ms=clock.now_ms() - 2 * HOUR_MS)


def removed_parts(store: Store) -> list[str | None]:
    return [row[0] for row in store.rows("SELECT removed_parts FROM event ORDER BY id")]


def test_a_round_removes_all_that_is_over_and_tells_of_it_once(store: Store, lines: Lines) -> None:
    """On one of several hosts."""
    clock = SettableClock()
    add_old(store, clock, 3)
    store.wait(loop_of(store, clock, is_leader=False).round())
    assert removed_parts(store) == [None] * 3
    rounds = loop_of(store, clock)
    assert store.wait(rounds.round()) == daemon.REST_S
    assert removed_parts(store) == ["body"] * 3
    assert store.wait(rounds.round()) == daemon.REST_S
    [told] = [line for line in lines if line["event"].startswith("retention.")]
    assert told.pop("log_level") == "info"
    about = {"removed": "body", "count": 3}
    assert told == {"event": "retention.removed", **about}


def test_after_a_start_and_with_other_periods_it_looks_at_all_again(store: Store) -> None:
    clock = SettableClock()
    add_old(store, clock)
    rounds = loop_of(store, clock)
    store.wait(rounds.round())
    store.add(body=b"late", received_at_ms=clock.now_ms() - 3 * HOUR_MS)
    store.wait(rounds.round())
    assert removed_parts(store) == ["body", None]
    store.wait(loop_of(store, clock).round())
    assert removed_parts(store) == ["body", "body"]
    store.add(body=b"later", received_at_ms=clock.now_ms() - 4 * HOUR_MS)
    rounds.configure(Retention.model_validate({"body": "2h"}))
    store.wait(rounds.round())
    assert removed_parts(store) == ["body"] * 3


def set_on(clock: SettableClock, by_ms: int) -> None:
    clock.set_by_ms += by_ms
    clock.jumped_ms()


@pytest.mark.parametrize("restarts", [False, True])
def test_by_a_clock_that_is_set_on_by_400_days_nothing_goes(store: Store, restarts: bool) -> None:
    clock = SettableClock()
    store.wait(Heartbeat(store.writer, clock).beat())
    store.add(received_at_ms=clock.now_ms())
    store.wait(store.inbox.reject(new_rejection(at_ms=clock.now_ms())))
    rounds, beats = loop_of(store, clock, rejections="1h"), Heartbeat(store.writer, clock)
    store.wait(rounds.round())
    set_on(clock, 400 * DAY_MS)
    for _ in range(3):
        if restarts:
            rounds, beats = loop_of(store, clock, rejections="1h"), Heartbeat(store.writer, clock)
        store.wait(beats.beat())
        store.wait(rounds.round())
    assert removed_parts(store) == [None]
    assert store.rows("SELECT count(*) FROM rejection") == [(1,)]
    set_on(clock, -400 * DAY_MS)
    store.by_hand("UPDATE event SET received_at_ms = ?", clock.now_ms() - 2 * HOUR_MS)
    store.wait(loop_of(store, clock).round())
    assert removed_parts(store) == ["body"], "by the right clock all goes as ever"


def test_what_comes_while_the_clock_is_behind_is_kept_from_then_on(store: Store) -> None:
    clock = SettableClock()
    store.wait(Heartbeat(store.writer, clock).beat())
    store.add(body=b"lags by minutes", received_at_ms=clock.now_ms() - 4 * 60_000)
    set_on(clock, -400 * DAY_MS)
    store.wait(Heartbeat(store.writer, clock).beat())
    wall_ms = clock.now_ms()
    store.add(received_at_ms=wall_ms)
    kept = "SELECT received_at_ms, at_ms - received_at_ms FROM event"
    kept += " LEFT JOIN kept_from ON event_id = event.id ORDER BY event.id"
    since = store.rows(kept)
    assert (since[0][1], since[1][0]) == (None, wall_ms)
    assert since[1][1] >= 399 * DAY_MS
    set_on(clock, 400 * DAY_MS)
    store.wait(loop_of(store, clock).round())
    assert removed_parts(store) == [None, None]
    store.by_hand("UPDATE kept_from SET at_ms = at_ms - ?", 2 * HOUR_MS)
    store.wait(loop_of(store, clock).round())
    assert removed_parts(store) == [None, "body"]
