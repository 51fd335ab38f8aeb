"""Alerts: the problems that the daemon reports, and the hooks that it runs for them. And the
service to which it sends heartbeats, which alerts people when they stop."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainValidator, model_validator

from premblyd import record
from premblyd.config.hooks import HttpHook, ProxyValue, UrlValue, WithHook
from premblyd.config.keys import Section, used_twice
from premblyd.config.values import (
    DISK_PERCENT,
    DurationMs,
    Model,
    Name,
    at_least,
    duration_ms,
    duration_text,
)
from premblyd.feature import added

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A kind of trouble that an alert is for."""

    kind: str
    silent_ms: int = 0  # of `silent`
    percent: int = DISK_PERCENT  # of `disk`


def kinds() -> dict[str, str]:
    """Return the kinds of trouble that an alert can be for, each with what it means."""
    return dict([*record.TROUBLES, *added("__init__", "TROUBLES")])


def _trigger(value: Any) -> Trigger:
    """Read `dead`, {silent: 6h} or {disk: 90%}. Raise ValueError for anything else."""
    match value:
        case "silent":
            raise ValueError("should say for how long: `silent: 6h`")
        case str() if value in kinds():
            return Trigger(kind=value)
        case {"silent": text} if len(value) == 1:
            return Trigger(kind="silent", silent_ms=duration_ms(text))
        case {"disk": text} if len(value) == 1:
            found = re.fullmatch(r"([1-9]\d?) ?%", str(text))
            if not found:
                raise ValueError("should be a share such as 90%")
            return Trigger(kind="disk", percent=int(found[1]))
        case _:
            raise ValueError(f"should be one of {', '.join(kinds())}")


class Alert(WithHook):
    """A hook that tells people of trouble, gathered, and not again within `every`."""

    name: Name
    on: tuple[Annotated[Trigger, PlainValidator(_trigger)], ...] = Field(min_length=1)
    every_ms: Annotated[DurationMs, at_least(MINUTE_MS)] = Field(30 * MINUTE_MS, alias="every")

    @model_validator(mode="after")
    def _refuse_envelopes(self) -> "Alert":
        if isinstance(self.hook, HttpHook) and self.hook.send == "event":
            raise ValueError("an alert has no event: `send` should be raw, or {select: …}")
        return self

    @property
    def every(self) -> str:
        """How often it is repeated at most, as the file has it."""
        return duration_text(self.every_ms)


class Checkin(Model):
    """A service that expects a heartbeat each `every`. The URL is a secret: whoever knows it can
    send heartbeats for a dead daemon."""

    url: UrlValue
    every_ms: Annotated[DurationMs, at_least(2000)] = Field(60_000, alias="every")
    ca_file: Path | None = None
    proxy: ProxyValue | None = None


ALERTS: Section[tuple[Alert, ...]] = Section("alerts", tuple[Alert, ...], ())
CHECKIN: Section[Checkin | None] = Section("checkin", Checkin | None, None)
SECTIONS = (ALERTS, CHECKIN)
MISTAKES = (lambda data: used_twice(data, "alerts", "name"),)
