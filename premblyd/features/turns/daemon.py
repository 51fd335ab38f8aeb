"""What a running daemon does about `order`."""

import asyncio
from typing import Any

from premblyd.config.models import Config
from premblyd.config.routing import Routing
from premblyd.features.turns import order
from premblyd.features.turns.settings import then_of
from premblyd.ground import loops
from premblyd.services import Part, Services
from premblyd.store.engine import Transaction
from premblyd.store.writer import Step

STORE_PAUSE_S = 1.0
LOOK_AGAIN_S = 3600.0  # without a change


class Lines(Part):
    """Makes due what waits in vain: behind dead deliveries, when its action is not to wait any
    more."""

    def open(self, services: Services) -> None:
        self._services, self._has_changed = services, asyncio.Event()
        self.loops = {"order": self._run}

    def prepare(self, settings: Config, routing: Routing) -> set[str]:
        return {each.name for each in settings.actions if then_of(each) != "wait"}

    def configure(self, settings: Config, prepared: Any) -> None:
        self._free: set[str] = prepared
        self._has_changed.set()

    async def _run(self) -> None:
        await loops.repeat(self._round, STORE_PAUSE_S, wake=self._has_changed)

    async def _round(self) -> float:
        free, writer = self._free, self._services.writer
        now_ms = self._services.clock.now_ms

        def let_go(transaction: Transaction) -> bool:
            return order.let_go(transaction, free, now_ms())

        if await writer.call(let_go, Step.EVIDENCE, alone=True):
            self._services.wake()
        return LOOK_AGAIN_S


PARTS = (Lines,)
