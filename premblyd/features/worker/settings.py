"""The hook that stays running, in the configuration."""

from typing import Annotated

from pydantic import Field, model_validator

from premblyd.config.hooks import ProcessHook
from premblyd.config.values import DurationMs, NonEmpty, SizeBytes, at_least, duration_text


class WorkerHook(ProcessHook):
    """A program that stays running: each delivery is a line that it reads, and answers by another.

    `timeout_ms` is how long it may be silent; by `busy` it may take up to `max_busy_ms` for a line.
    After `max_runs`, at `max_age_ms`, above `max_memory_bytes` and when it had nothing to do for
    `idle_ms`, a process ends in good order.
    """

    key = "worker"
    may_outlast_timeout = True
    worker: tuple[NonEmpty, ...] = Field(min_length=1)
    max_busy_ms: DurationMs = Field(600_000, alias="max_busy", ge=1)
    max_runs: int | None = Field(None, ge=1)
    max_age_ms: Annotated[DurationMs, at_least(1000)] | None = Field(None, alias="max_age")
    idle_ms: Annotated[DurationMs, at_least(1000)] | None = Field(None, alias="idle")
    max_memory_bytes: SizeBytes | None = Field(None, alias="max_memory", ge=1 << 20)
    start_timeout_ms: DurationMs = Field(30_000, alias="start_timeout", ge=1)

    @model_validator(mode="after")
    def _refuse_less_than_timeout(self) -> "WorkerHook":
        if self.max_busy_ms < self.timeout_ms:
            raise ValueError(
                f"`max_busy` ({duration_text(self.max_busy_ms)}) should be no less than `timeout`"
                f" ({duration_text(self.timeout_ms)})"
            )
        return self

    @property
    def program(self) -> str | None:
        return self.worker[0]
