"""What the console's pages work with: one set for all of them."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from premblyd.clock import Clock
from premblyd.config.console import Console
from premblyd.config.models import Config
from premblyd.console.bulk import Bulks
from premblyd.console.guessing import Guesses
from premblyd.console.guests import Guests
from premblyd.console.live import Live
from premblyd.engines.readers import Readers
from premblyd.engines.writer import Writer
from premblyd.metrics.exporter import Exporter
from premblyd.passwords import PasswordHash
from premblyd.receive.evidence import Quota

LINES_PER_MINUTE = 20  # of each kind that anybody at all can cause


@dataclass(slots=True, kw_only=True)
class Services:
    """The console's parts, as every handler gets them."""

    readers: Readers
    writer: Writer
    clock: Clock
    wake: Callable[[], None]  # tells the dispatcher that there are deliveries
    path: Path | None  # of the database, if it is a file
    cookie: str  # name of the session's
    metrics: Exporter
    live: Live
    bulks: Bulks
    guesses: Guesses = field(default_factory=Guesses)
    guests: Guests = field(default_factory=Guests)
    # Of lines of the log, by their names.
    quotas: defaultdict[str, Quota] = field(
        default_factory=lambda: defaultdict(lambda: Quota(LINES_PER_MINUTE))
    )
    # A try of a password takes a core and 32 MB: one at a time.
    trying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    config: Config = field(init=False)
    password: PasswordHash | None = field(init=False, default=None)

    @property
    def settings(self) -> Console:
        """The console's own part of the configuration."""
        assert self.config.console is not None  # noqa: S101 (there is no console without)
        return self.config.console
