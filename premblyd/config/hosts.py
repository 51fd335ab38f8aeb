"""`hosts`: this daemon among others on one PostgreSQL database."""

import socket

from pydantic import Field

from premblyd.config.base import Model
from premblyd.config.values import DurationMs, Name


class HostsSettings(Model):
    """What the others know this daemon by, and how long one may be silent."""

    name_value: Name | None = Field(None, alias="name")
    lost_after_ms: DurationMs = Field(10_000, alias="lost_after", ge=500)

    @property
    def name(self) -> str:
        """What people know this host by."""
        return self.name_value or socket.gethostname()
