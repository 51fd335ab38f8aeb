"""What the console's pages work with: one set for all of them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from peewee import Database

from premblyd.clock import Clock
from premblyd.config.console import Console
from premblyd.config.models import Config
from premblyd.console.guessing import Guesses
from premblyd.metrics.exporter import Exporter
from premblyd.passwords import PasswordHash
from premblyd.store.writer import Writer

Found = TypeVar("Found")


class Readers(Protocol):
    """Reads the record beside the daemon's work."""

    def run(self, work: Callable[[Database], Found]) -> Awaitable[Found]:
        """Return what `work` reads. Raise TryAgainError when it takes too long, or too many read
        at once."""
        ...


@dataclass(slots=True, kw_only=True)
class Services:
    """The console's parts, as every handler gets them."""

    readers: Readers
    writer: Writer
    clock: Clock
    wake: Callable[[], None]  # tells the dispatcher that there are deliveries
    cookie: str  # name of the session's
    metrics: Exporter
    guesses: Guesses = field(default_factory=Guesses)
    config: Config = field(init=False)
    password: PasswordHash | None = field(init=False, default=None)

    @property
    def settings(self) -> Console:
        """The console's own part of the configuration."""
        assert self.config.console is not None  # noqa: S101 (there is no console without)
        return self.config.console
