"""The daemon's metrics: counts what happens, and shows it when it is asked."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from premblyd.config.models import Config
from premblyd.features.watch.counting import Counts
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import PremblydError
from premblyd.ground.times import Clock
from premblyd.record.told import Family
from premblyd.services import Runtime
from premblyd.store.connections import backend
from premblyd.store.readers import Readers


class Exporter:
    """Counts from its start on. `runtime` returns what the daemon's parts say now."""

    def __init__(self, place: DatabaseAddress, clock: Clock) -> None:
        self.counts = Counts()
        self._place = place
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    def configure(self, config: Config) -> None:
        """Know these endpoints and actions from now on."""
        self._config = config
        self.counts.configure(config)

    def watch(self, runtime: Callable[[], Runtime]) -> None:
        """Ask `runtime` what the daemon's parts say."""
        self._runtime = runtime

    async def expose(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format that `accept`, a request's header, asks for, and that
        format: without those of the record where that can't be read, or takes too long."""
        async with self._one_at_a_time:
            counts, runtime = self.counts.copy(), self._runtime()
            settings, now_ms = self._config, self._clock.now_ms()
            families = await asyncio.to_thread(_families)
            readers = Readers(backend(self._place), count=1)
            try:
                record = await readers.run(
                    lambda database: families.read(database, runtime, self._place, settings, now_ms)
                )
            except PremblydError:
                record = None
            finally:
                await readers.close()
            return await asyncio.to_thread(self._expose, counts, runtime, record, accept)

    def _expose(
        self, counts: Counts, runtime: Runtime, record: Sequence[Family] | None, accept: str
    ) -> tuple[bytes, str]:
        families = _families()
        sizes = backend(self._place).sizes()
        exposed: tuple[bytes, str] = families.expose(counts, runtime, sizes, record, accept)
        return exposed


def _families() -> Any:
    # Here, as a daemon that nobody asks has no use for the library, nor for reading the record, and
    # they take memory and a tenth of a start.
    from premblyd.features.watch import families

    return families
