"""What makes a daemon one of several hosts."""

from typing import Any

from premblyd.config.models import Config
from premblyd.features.postgresql.membership import Membership
from premblyd.features.postgresql.settings import HOSTS as HOSTS_KEY
from premblyd.queue.register import AboutHost


def about(settings: Config) -> AboutHost:
    """Return what `hosts` says."""
    hosts = HOSTS_KEY.of(settings)
    return AboutHost(name=hosts.name_value, lost_after_ms=hosts.lost_after_ms)


def member(*, backend: Any, **more: Any) -> Membership:
    """Return a daemon's part among those on its database."""
    return Membership(beacon=backend.beacon(), **more)


HOSTS, MEMBERS = (about,), (member,)
