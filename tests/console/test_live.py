"""Who watches, and how many may."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from premblyd.console import live
from premblyd.console.live import Live, TooManyWatchersError
from premblyd.engines.engine import Database
from premblyd.engines.readers import PageReader, Readers
from premblyd.errors import StoreUnreadableError
from premblyd.record.statistics import Pulse

Found = TypeVar("Found")


class Looks(Readers):
    """Stands for the readers: each look sees one event more; every third fails."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self, work: Callable[[Database], Found], page: PageReader | None = None) -> Found:
        self.count += 1
        if self.count % 3 == 0:
            raise StoreUnreadableError("it is locked")
        found: Any = Pulse(
            event=self.count, attempt=0, rejection=0, operator_action=0, running=0, dead=0
        )
        return found  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.001)


def test_all_who_watch_share_one_look_and_nobody_watching_costs_none() -> None:
    async def scene() -> None:
        looks = Looks()
        own = Live(looks)
        watching = [own.watch() for _ in range(live.MAX_WATCHERS)]
        for each in watching:
            await anext(each)  # nothing is known yet
        with pytest.raises(TooManyWatchersError):
            await anext(own.watch())
        first = await asyncio.gather(*(anext(each) for each in watching))
        assert first == [first[0]] * live.MAX_WATCHERS
        assert looks.count < live.MAX_WATCHERS
        seen = [pulse async for pulse in _some(watching[0], 5)]
        assert None in seen, "a look that failed tells nothing, and the next comes"
        for each in watching:
            await each.aclose()
        await asyncio.sleep(0.05)
        at_rest = looks.count
        await asyncio.sleep(0.05)
        assert looks.count == at_rest
        again = own.watch()
        assert await anext(again) is not None, "a page that comes later learns at once"
        await again.aclose()
        await own.close()

    asyncio.run(scene())


def test_closing_lets_everybody_go() -> None:
    async def scene() -> None:
        own = Live(Looks())

        async def watch() -> int:
            return len([pulse async for pulse in own.watch()])

        watching = [asyncio.ensure_future(watch()) for _ in range(3)]
        await asyncio.sleep(0.02)
        await own.close()
        assert all(await asyncio.gather(*watching))

    asyncio.run(scene())


async def _some(watching: Any, count: int) -> Any:
    for _ in range(count):
        yield await anext(watching)
