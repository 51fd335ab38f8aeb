"""Replays of many deliveries: they go on while their page shows how far they are."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from premblyd.clock import Clock
from premblyd.config.models import Config
from premblyd.console.readers import Readers
from premblyd.engines.writer import Writer
from premblyd.errors import PremblydError, TryAgainError
from premblyd.record import pacing, replays
from premblyd.record.operating import BATCH, Operator
from premblyd.record.replays import Dead, Plan
from premblyd.record.rows import FoundDelivery

KEPT = 20  # of which the page is still there


class BusyError(TryAgainError):
    """A replay runs already."""


@dataclass(slots=True, kw_only=True)
class Bulk:
    """A replay of many deliveries."""

    id: int
    about: str
    total: int  # when it began
    queued: int = 0
    left_alone: int = 0
    is_finished: bool = False
    mistake: str | None = None
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)


class Bulks:
    """The replays since the start of the daemon: one at a time, and each in steps, so that webhooks
    wait for no more than a step."""

    def __init__(
        self, readers: Readers, writer: Writer, clock: Clock, wake: Callable[[], None]
    ) -> None:
        self._readers = readers
        self._writer = writer
        self._clock = clock
        self._wake = wake
        self._all: dict[int, Bulk] = {}

    def find(self, bulk_id: int) -> Bulk | None:
        return self._all.get(bulk_id)

    def start(self, dead: Dead, total: int, config: Config, *, about: str, actor: str) -> Bulk:
        """Begin to queue `dead`, of which there are `total` now. Raise BusyError while another
        replay runs."""
        if running := next((bulk for bulk in self._all.values() if not bulk.is_finished), None):
            raise BusyError(f"Another replay runs: {running.about}. Try again when it is done.")
        bulk = Bulk(id=max(self._all, default=0) + 1, about=about, total=total)
        self._all[bulk.id] = bulk
        for old in sorted(self._all)[:-KEPT]:
            del self._all[old]
        # The configuration as it is now: a reload meanwhile must not take an action away.
        bulk.task = asyncio.create_task(self._run(bulk, dead, config, Operator(actor=actor)))
        return bulk

    async def close(self) -> None:
        """Stop what runs: what is queued stays queued."""
        tasks = [bulk.task for bulk in self._all.values() if bulk.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, bulk: Bulk, dead: Dead, config: Config, operator: Operator) -> None:
        names = {action.name for action in config.actions}
        last_id = 0
        try:
            # By numbers that rise: what fails again meanwhile is not queued twice.
            while found := await self._readers.run(dead.after(last_id)):
                last_id = found[-1].id
                plan = Plan(finished=_replayable(found, names))
                queued = 0
                began = time.monotonic()
                for change in replays.changes(plan, operator, config, self._clock.now_ms()):
                    queued += await self._writer.call(change, alone=True)
                took_s = time.monotonic() - began
                bulk.queued += queued
                bulk.left_alone += len(found) - queued
                self._wake()
                if len(found) < BATCH:
                    break
                await asyncio.sleep(pacing.gap_s(took_s))
        except PremblydError as error:
            bulk.mistake = str(error)
        finally:
            bulk.is_finished = True


def _replayable(found: Sequence[FoundDelivery], names: set[str]) -> tuple[FoundDelivery, ...]:
    """Return what has an action, and is of no event that Prembly contradicted: those are replayed
    one by one, by who has looked at them."""
    return tuple(each for each in found if each.action in names and not each.contradicted)
