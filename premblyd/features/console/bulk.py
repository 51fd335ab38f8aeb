"""Replays and cancels of many deliveries: they run on while their page shows the progress."""

import asyncio
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from premblyd.config.models import Config
from premblyd.ground.errors import NotFoundError, PremblydError, TryAgainError
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock
from premblyd.record import operating, replays
from premblyd.record.filters import DeliveryFilter
from premblyd.record.operating import BATCH, CANCELLED, REPLAYED, Change, Operator
from premblyd.record.replays import Plan, Request
from premblyd.store.engine import Database
from premblyd.store.readers import Readers
from premblyd.store.writer import Writer

KEPT = 20  # the newest keep their pages


class BusyError(TryAgainError):
    """A replay or a cancel of many runs already."""


@dataclass(slots=True, kw_only=True)
class Bulk:
    """A replay or a cancel of many deliveries."""

    id: int
    about: str
    total: int  # when it began
    does: str = REPLAYED
    queued: int = 0  # or cancelled
    left_alone: int = 0
    is_stopped: bool = False  # by a person: it ends after its step
    is_finished: bool = False
    mistake: str | None = None
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return what is shown of it."""
        names = [each.name for each in fields(self) if each.name != "task"]
        return {name: getattr(self, name) for name in names}


@dataclass(eq=False)
class Bulks:
    """Those since the start of the daemon: one at a time, and each in steps, so that webhooks
    wait for no more than a step."""

    _readers: Readers
    _writer: Writer
    _clock: Clock
    _wake: Callable[[], None]
    _all: dict[int, Bulk] = field(default_factory=dict)

    def find(self, bulk_id: int) -> Bulk:
        """Return one of them. Raise NotFoundError when it is none any more."""
        if bulk_id not in self._all:
            raise NotFoundError("There is no such replay any more. The operator log has it.")
        return self._all[bulk_id]

    def start(
        self,
        chosen: DeliveryFilter,
        total: int,
        config: Config,
        *,
        about: str,
        actor: str,
        does: str = REPLAYED,
    ) -> Bulk:
        """Begin to queue what is chosen, `total` deliveries by now, or to cancel it. Raise
        BusyError while another one runs."""
        if running := next((bulk for bulk in self._all.values() if not bulk.is_finished), None):
            raise BusyError(
                f"Another {running.does} runs: {running.about}. Try again when it is finished."
            )
        bulk = Bulk(id=max(self._all, default=0) + 1, about=about, total=total, does=does)
        self._all[bulk.id] = bulk
        for old in sorted(self._all)[:-KEPT]:
            del self._all[old]
        # The configuration as it is now: a reload meanwhile must not take an action away.
        bulk.task = asyncio.create_task(self._run(bulk, chosen, config, Operator(actor=actor)))
        return bulk

    async def close(self) -> None:
        """Stop what runs: what is queued stays queued."""
        tasks = [bulk.task for bulk in self._all.values() if bulk.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(
        self, bulk: Bulk, chosen: DeliveryFilter, config: Config, operator: Operator
    ) -> None:
        # By numbers that rise: what fails again meanwhile is not queued twice.
        request: Request | None = Request(chosen=chosen, limit=BATCH)
        try:
            begun = operator.many(bulk.about, self._clock.now_ms(), bulk.does)
            operator = await self._writer.call(begun, alone=True)
            while request is not None and not bulk.is_stopped:
                now_ms = self._clock.now_ms()
                plan = await self._readers.run(
                    functools.partial(_plan, bulk, settings=config, request=request, now_ms=now_ms)
                )
                queued = 0
                began = time.monotonic()
                for change in _changes(bulk, plan, operator, config, now_ms):
                    queued += await self._writer.call(change, alone=True)
                took_s = time.monotonic() - began
                bulk.queued += queued
                bulk.left_alone += len(plan.found) - queued
                self._wake()
                request = replays.next_step(plan, request)
                if request is not None:
                    await asyncio.sleep(operating.gap_s(took_s))
        except PremblydError as error:
            bulk.mistake = str(error)
        except Exception as error:  # noqa: BLE001  # what is queued stays, and the rest is not
            bulk.mistake = "This is a fault in premblyd: its log says more."
            tell("console.failed", cause=error)
        finally:
            bulk.is_finished = True


def _plan(
    bulk: Bulk, database: Database, *, settings: Config, request: Request, now_ms: int
) -> Plan:
    if bulk.does == CANCELLED:
        chosen, after_id = request.chosen, request.after_id
        return Plan(found=replays.find_deliveries(database, chosen, after_id, request.limit))
    return replays.plan(database, settings, request, now_ms)


def _changes(
    bulk: Bulk, plan: Plan, operator: Operator, settings: Config, now_ms: int
) -> Iterator[Change[int]]:
    if bulk.does == CANCELLED:
        return operator.cancel_dead([each.id for each in plan.found], now_ms)
    return replays.changes(plan, operator, settings, now_ms)
