"""The service to which the daemon sends heartbeats, which alerts people when they stop."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from premblyd.config.hooks import ProxyValue
from premblyd.config.secrets import Secret, checked
from premblyd.config.values import DurationMs, Model, at_least


def _require_url(url: Secret) -> None:
    # What is appended behind a # would not be sent: /fail would be a heartbeat.
    if not re.fullmatch(r"https?://[^\s#]+", url.reveal()):
        raise ValueError("should be a URL that starts with http:// or https://, and has no #")


class Checkin(Model):
    """A service that expects a heartbeat each `every`. The URL is a secret: whoever knows it can
    send heartbeats for a dead daemon. `signals`: the service that defines the suffixes of the URL's
    path."""

    url: Annotated[Secret, checked(_require_url)]
    every_ms: Annotated[DurationMs, at_least(2000)] = Field(60_000, alias="every")
    signals: Literal["healthchecks", "none"] = "healthchecks"
    ca_file: Path | None = None
    proxy: ProxyValue | None = None
