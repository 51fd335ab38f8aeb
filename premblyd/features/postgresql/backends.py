"""What a feature adds to `premblyd/store/connections.py`, without the library that it needs; and
what makes a daemon one of several hosts."""

import functools
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from premblyd.config.models import Config
from premblyd.features.postgresql.settings import HOSTS as HOSTS_KEY
from premblyd.features.postgresql.settings import Server
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import CannotStartError, PremblydError, StoreUnavailableError
from premblyd.queue.register import Identity
from premblyd.store.engine import Backend
from premblyd.store.writer import Writer

if TYPE_CHECKING:
    from premblyd.features.postgresql.membership import Membership
    from premblyd.run.starting import Permit


def backend(place: DatabaseAddress) -> Backend | None:
    """Return the backend of a server. Raise CannotStartError when the library is not installed, or
    the place can't be one."""
    if not isinstance(place, Server):
        return None
    try:
        from premblyd.features.postgresql.engine import PostgresqlBackend
    except ImportError:  # many do without its library
        raise CannotStartError(
            "PostgreSQL needs the library psycopg: run install.sh --with postgresql; without"
            " systemd, pip install '.[postgresql]' in a checkout."
        ) from None
    return PostgresqlBackend(place)


def as_ours(error: Exception, to: type[StoreUnavailableError]) -> PremblydError | None:
    """Return the error of ours for a failure of PostgreSQL's: see opening.py. It is looked for
    only now, as what failed may have been what loaded it."""
    opening = sys.modules.get("premblyd.features.postgresql.opening")
    return None if opening is None else opening.as_ours(error, to)


def own_name(settings: Config) -> str | None:
    """Return what this host is called by its configuration."""
    return HOSTS_KEY.of(settings).name_value


def member(
    *,
    settings: Config,
    writer: Writer,
    own: Identity,
    backend: Any,
    permitted: Callable[[], "Mapping[str, Permit]"],
    **more: Any,
) -> "Membership":
    """Return a daemon's part among those on its database. `permitted`: its hooks that run."""
    from premblyd.features.postgresql.membership import (
        Membership,
        SharedHosts,
        stop_fenced_hooks,
    )

    hosts, names = HOSTS_KEY.of(settings), (action.name for action in settings.actions)
    return Membership(
        SharedHosts(writer, own, names, hosts.lost_after_ms),
        own=own,
        beacon=backend.beacon(),
        lost_after_s=hosts.lost_after_ms / 1000,
        is_named=hosts.name_value is not None,
        stop_fenced_hooks=functools.partial(stop_fenced_hooks, permitted),
        **more,
    )


BACKENDS = (backend,)
TRANSLATIONS = (as_ours,)
HOSTS, MEMBERS = (own_name,), (member,)
