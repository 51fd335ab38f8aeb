"""Where the daemon checks in, so that it is missed elsewhere when it does not work."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from premblyd.config.hooks import ProxyValue, UrlValue
from premblyd.config.values import DurationMs, Model


class Checkin(Model):
    """A service that expects a heartbeat each `every`. The URL is a secret: whoever knows it can
    send heartbeats for a daemon that is dead. `signals`: whose suffixes of the URL's path the
    service understands."""

    url: UrlValue
    every_ms: DurationMs = Field(60_000, alias="every", ge=2000)
    signals: Literal["healthchecks", "none"] = "healthchecks"
    ca_file: Path | None = None
    proxy: ProxyValue | None = None
