"""The daemon's heartbeat: each minute it keeps in the database that webhooks can be stored, so that
the next start knows since when they could not."""

import asyncio
import os
import time
from pathlib import Path

from premblyd import times
from premblyd.clock import Clock
from premblyd.config.models import Config
from premblyd.errors import StoreUnavailableError
from premblyd.hosts.downtimes import Gap, Heartbeats, Moment
from premblyd.occurrences import DaemonWasDown
from premblyd.telemetry import tell

EVERY_S = 60.0
AGAIN_S = 5.0  # after the database could not commit
# The service can't read the kernel's file (ProcSubset=pid), so systemd tells it by this variable.
MACHINE_START_FILE = Path("/proc/sys/kernel/random/boot_id")
MACHINE_START_VARIABLE = "PREMBLYD_MACHINE_START"


class Heartbeat:
    """Beats while the daemon takes webhooks: `begin` when it does, `run` as a loop, `end` when it
    takes no more."""

    def __init__(self, heartbeats: Heartbeats, clock: Clock, *, every_s: float = EVERY_S) -> None:
        self._heartbeats = heartbeats
        self._clock = clock
        self._every_s = every_s
        self._machine_start = machine_start()
        self._has_ended = False
        self._may_ask = False

    def configure(self, settings: Config) -> None:
        """Use these settings: by them it is known whether Prembly can be asked what was missed."""
        self._may_ask = settings.prembly is not None and settings.prembly.api_key is not None

    async def begin(self) -> None:
        """Beat for the first time; tell of a downtime before. Raise StoreUnavailableError when the
        database can't commit."""
        await self._beat()

    async def run(self) -> None:
        """Beat until the daemon ends."""
        wait_s = self._every_s
        while True:
            await asyncio.sleep(wait_s)
            try:
                if not self._has_ended:
                    await self._beat()
                wait_s = self._every_s
            except StoreUnavailableError:  # the writer has logged it
                wait_s = min(AGAIN_S, self._every_s)

    async def end(self) -> None:
        """Beat for the last time."""
        self._has_ended = True
        try:
            await self._beat()
        except StoreUnavailableError:  # the writer has logged it; a downtime then begins earlier
            return

    async def _beat(self) -> None:
        gap = await self._heartbeats.beat(self._now())
        if gap is not None:
            tell(_occurrence(gap, may_ask=self._may_ask))

    def _now(self) -> Moment:
        return Moment(
            at_ms=self._clock.now_ms(),
            machine_start=self._machine_start,
            uptime_ms=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000,  # counts sleep too
        )


def machine_start() -> str | None:
    """Return which start of the machine this is; None when it can't be told."""
    try:
        text = MACHINE_START_FILE.read_text(encoding="ascii")
    except (OSError, ValueError):
        text = os.environ.get(MACHINE_START_VARIABLE, "")
    return text.strip().replace("-", "") or None  # systemd writes it without hyphens


def _occurrence(gap: Gap, *, may_ask: bool) -> DaemonWasDown:
    since = times.iso(gap.from_ms // 1000 * 1000)
    remedy = (
        f"premblyd reconcile --since {since} --store" if may_ask else "set `api_key` in `prembly:`"
    )
    return DaemonWasDown(
        down_since=since,
        down_until=times.iso(gap.until_ms // 1000 * 1000),
        minutes=(gap.until_ms - gap.from_ms) // 60_000,
        remedy=remedy,
    )
