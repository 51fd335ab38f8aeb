"""The service to which the daemon sends heartbeats, which alerts people when they stop."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from premblyd.config.hooks import ProxyValue
from premblyd.config.secrets import Secret, shaped
from premblyd.config.values import DurationMs, Model, at_least

# What is appended behind a # would not be sent: /fail would be a heartbeat.
_URL = r"https?://[^\s#]+"
_URL_WORDS = "should be a URL that starts with http:// or https://, and has no #"


class Checkin(Model):
    """A service that expects a heartbeat each `every`. The URL is a secret: whoever knows it can
    send heartbeats for a dead daemon. `signals`: the service that defines the suffixes of the URL's
    path."""

    url: Annotated[Secret, shaped(_URL, _URL_WORDS)]
    every_ms: Annotated[DurationMs, at_least(2000)] = Field(60_000, alias="every")
    signals: Literal["healthchecks", "none"] = "healthchecks"
    ca_file: Path | None = None
    proxy: ProxyValue | None = None
