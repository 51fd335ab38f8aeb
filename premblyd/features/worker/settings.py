"""The hook that stays running, in the configuration."""

from pydantic import Field

from premblyd.config.hooks import ProcessHook
from premblyd.config.values import DurationMs, NonEmpty


class WorkerHook(ProcessHook):
    """A program that stays running: each delivery is a line that it reads, and answers by another
    within `timeout_ms`."""

    key = "worker"
    worker: tuple[NonEmpty, ...] = Field(min_length=1)
    start_timeout_ms: DurationMs = Field(30_000, alias="start_timeout", ge=1)

    @property
    def program(self) -> str | None:
        return self.worker[0]

    @property
    def longest_ms(self) -> int:
        return self.start_timeout_ms + self.timeout_ms
