"""Alerts: which problems the daemon reports, and by which hook. And the service to which it sends
heartbeats, which alerts people when they stop."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, model_validator

from premblyd.config.hooks import HttpHook, ProxyValue, WithHook
from premblyd.config.keys import Section, used_twice
from premblyd.config.secrets import Secret, shaped
from premblyd.config.values import DurationMs, Model, Name, at_least, duration_ms, duration_text

# Each kind in the table of troubles (record/troubles) that a daemon can tell of, and what it means.
KINDS = {
    "database": "the database can't store webhooks",
    "silent": "no event came for a duration: silent: 6h",
    "disk": "the database's disk is nearly full: disk: 90%",
    "snapshot": "a transaction keeps the PostgreSQL server from cleaning up",
    "clock": "the clock is far off, or was",
    "host": "another host that shares the database was lost, or deliveries wait for one",
    "contradicted": "Prembly contradicted events that it was asked to confirm",
    "wallet": "your Prembly wallet is empty (code 03)",
    "prembly": "Prembly refuses the API key, or can't be reached",
    "late": "deliveries are overdue",
    "failing": "an action keeps failing",
    "lacking": "hooks can't start, as the machine lacks files, processes or memory",
    "halted": "an action's worker processes can't start, or have said abort",
    "paused": "a pause without an end has lasted a day, or its action is not configured any more",
    "blocked": "deliveries wait for a dead one: order, with then: wait",
    "dead": "deliveries gave up",
    "downtime": "for more than an hour no webhook could be stored",
    "rejections": "many requests were refused",
    "doubted": "bodies said VERIFIED, but also something that does not fit",
    "shared": "Prembly's answers give an id to two verifications",
    "differs": "Prembly confirmed VERIFIED for doubted events",
    "given_up": "Prembly was asked for a week, and never answered",
    "unmatched": "events matched no action",
    "new_code": "a response code that Prembly does not document came for the first time",
    "alert": "another alert could not be sent",
    "retention": "expired data has not been deleted",
    "erasure": "an erasure was not finished",
    "key": "a change of the database's key was interrupted",
    "restored": "a copy was put in the place of the database",
    "put_aside": "an old database file is kept, and no erasure reaches it",
    "backup": "a backup failed, or a folder has had no new copy for three days",
    "erasure_file": "a file does not remember an erasure, or the database does not",
}
DISK_PERCENT = 90
MINUTE_MS = 60_000
# What is appended behind a # would not be sent: /fail would be a heartbeat.
_URL = r"https?://[^\s#]+"
_URL_WORDS = "should be a URL that starts with http:// or https://, and has no #"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A kind of trouble that an alert is for."""

    kind: str
    silent_ms: int = 0  # of `silent`
    percent: int = DISK_PERCENT  # of `disk`

    def __str__(self) -> str:
        match self.kind:
            case "silent":
                return f"silent: {duration_text(self.silent_ms)}"
            case "disk":
                return f"disk: {self.percent}%"
            case _:
                return self.kind


def _trigger(value: Any) -> Trigger:
    """Read `dead`, {silent: 6h} or {disk: 90%}. Raise ValueError for anything else."""
    match value:
        case "silent":
            raise ValueError("should say for how long: `silent: 6h`")
        case str() if value in KINDS:
            return Trigger(kind=value)
        case {"silent": text} if len(value) == 1:
            return Trigger(kind="silent", silent_ms=duration_ms(text))
        case {"disk": text} if len(value) == 1:
            found = re.fullmatch(r"([1-9]\d?) ?%", str(text))
            if not found:
                raise ValueError("should be a share such as 90%")
            return Trigger(kind="disk", percent=int(found[1]))
        case _:
            raise ValueError(f"should be one of {', '.join(KINDS)}")


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
    send heartbeats for a dead daemon. `signals`: the service that defines the suffixes of the URL's
    path."""

    url: Annotated[Secret, shaped(_URL, _URL_WORDS)]
    every_ms: Annotated[DurationMs, at_least(2000)] = Field(60_000, alias="every")
    signals: Literal["healthchecks", "none"] = "healthchecks"
    ca_file: Path | None = None
    proxy: ProxyValue | None = None


ALERTS: Section[tuple[Alert, ...]] = Section("alerts", tuple[Alert, ...], ())
CHECKIN: Section[Checkin | None] = Section("checkin", Checkin | None, None)
SECTIONS = (ALERTS, CHECKIN)
MISTAKES = (lambda data: used_twice(data, "alerts", "name"),)
