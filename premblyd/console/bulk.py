"""Replays of many deliveries: they go on while their page shows how far they are."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from peewee import Database

from premblyd.clock import Clock
from premblyd.config.models import Config
from premblyd.console.readers import Readers
from premblyd.errors import PremblydError, TryAgainError
from premblyd.record import replays
from premblyd.record.operating import Operator
from premblyd.record.replays import Plan
from premblyd.store.writer import Writer

KEPT = 20  # of which the page is still there


class BusyError(TryAgainError):
    """A replay runs already."""


@dataclass(slots=True, kw_only=True)
class Bulk:
    """A replay of many deliveries."""

    id: int
    about: str
    actor: str
    total: int
    left_alone: int
    queued: int = 0
    is_finished: bool = False
    mistake: str | None = None
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)


class Bulks:
    """The replays since the start of the daemon: one at a time, so that webhooks wait for no more
    than one batch of it."""

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

    async def start(
        self, make_plan: Callable[[Database], Plan], config: Config, *, about: str, actor: str
    ) -> Bulk:
        """Begin to queue what `make_plan` finds by `config`. Raise BusyError while another
        replay runs."""
        self._require_idle()
        plan = await self._readers.run(make_plan)
        self._require_idle()  # others may have come meanwhile
        left_alone = plan.unfinished + sum(plan.without_action.values())
        bulk = Bulk(
            id=max(self._all, default=0) + 1,
            about=about,
            actor=actor,
            total=len(plan),
            left_alone=left_alone,
        )
        self._all[bulk.id] = bulk
        for old in sorted(self._all)[:-KEPT]:
            del self._all[old]
        bulk.task = asyncio.create_task(self._run(bulk, plan, config))
        return bulk

    async def close(self) -> None:
        """Stop what runs: what is queued stays queued."""
        tasks = [bulk.task for bulk in self._all.values() if bulk.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _require_idle(self) -> None:
        if running := next((bulk for bulk in self._all.values() if not bulk.is_finished), None):
            raise BusyError(f"Another replay runs: {running.about}. Try again when it is done.")

    async def _run(self, bulk: Bulk, plan: Plan, config: Config) -> None:
        operator = Operator(actor=bulk.actor)
        try:
            for change in replays.changes(plan, operator, config, self._clock.now_ms()):
                bulk.queued += await self._writer.call(change)
                self._wake()
        except PremblydError as error:
            bulk.mistake = str(error)
        finally:
            bulk.is_finished = True
