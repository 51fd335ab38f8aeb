"""What a feature adds to `premblyd/store/connections.py`, without the library that it needs."""

import contextlib
import sys
from collections.abc import Iterator

from premblyd.features.postgresql.settings import Server
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import CannotStartError, StoreUnavailableError
from premblyd.store.backend import Backend


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


@contextlib.contextmanager
def translated(to: type[StoreUnavailableError]) -> Iterator[None]:
    """Turn a failure of PostgreSQL's into ours: see opening.py, which is looked for only now, as
    what failed may have been what loaded it."""
    try:
        yield
    except Exception:
        opening = sys.modules.get("premblyd.features.postgresql.opening")
        if opening is None:
            raise
        with opening.translated(to):
            raise


BACKENDS = (backend,)
TRANSLATIONS = (translated,)
