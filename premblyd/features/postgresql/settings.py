"""This host, for the others that share a database."""

import socket
from typing import Annotated

from pydantic import Field

from premblyd.config.keys import Section
from premblyd.config.values import DurationMs, Model, Name, at_least


class HostsSettings(Model):
    """This daemon's name for the other hosts, and after how long of silence they count it as
    lost."""

    name_value: Name | None = Field(None, alias="name")
    lost_after_ms: Annotated[DurationMs, at_least(500)] = Field(10_000, alias="lost_after")

    @property
    def name(self) -> str:
        """What people know this host by."""
        return self.name_value or socket.gethostname()


HOSTS = Section(
    "hosts",
    HostsSettings,
    HostsSettings(),
    only_at_start=lambda hosts: (hosts.name, hosts.lost_after_ms),
)
SECTIONS = (HOSTS,)
