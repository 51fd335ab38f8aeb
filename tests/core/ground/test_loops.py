"""The one skeleton of the daemon's loops."""

import asyncio

import pytest

from premblyd.ground.errors import StoreUnavailableError
from premblyd.ground.loops import repeat
from premblyd.ground.telemetry import tell
from tests.support.logs import logged
from tests.support.rows import for_each

LONG_S = 3600.0  # nothing here waits for it


class Rounds:
    """Work whose rounds end as told, one after the other."""

    def __init__(self, *ends: float | Exception | None) -> None:
        self._ends = iter(ends)
        self.count = 0

    async def work(self) -> float | None:
        self.count += 1
        end = next(self._ends)
        if isinstance(end, Exception):
            raise end
        return end


async def others_go_on() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def tell_failed(error: Exception) -> None:
    tell("dispatcher.failed", cause=error)


@for_each(
    ("error", "told"),
    [(StoreUnavailableError("away"), []), (ZeroDivisionError(), ["dispatcher.failed"])],
)
def test_a_round_that_fails_is_done_again_after_the_pause_and_told_unless_by_the_database(
    error: Exception, told: list[str]
) -> None:
    rounds = Rounds(error, 0, None)
    with logged() as lines:
        asyncio.run(repeat(rounds.work, 0, failed=tell_failed))
    assert (rounds.count, [line["event"] for line in lines]) == (3, told)


def test_a_round_that_fails_ends_a_loop_that_can_not_tell_of_it() -> None:
    rounds = Rounds(ZeroDivisionError(), None)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(repeat(rounds.work, 0))
    assert rounds.count == 1


@for_each("end", [LONG_S, StoreUnavailableError("away"), ZeroDivisionError()])
def test_who_is_woken_waits_no_longer(end: float | Exception) -> None:
    rounds = Rounds(end, LONG_S)

    async def run() -> None:
        wake = asyncio.Event()
        going = asyncio.create_task(repeat(rounds.work, LONG_S, wake=wake, failed=tell_failed))
        await others_go_on()
        assert rounds.count == 1
        wake.set()
        await others_go_on()
        assert rounds.count == 2
        going.cancel()

    with logged():
        asyncio.run(run())
