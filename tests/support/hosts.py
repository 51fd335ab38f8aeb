"""Several daemons on one PostgreSQL database."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from premblyd.databases import Server
from tests.support import postgresql
from tests.support.daemon import Premblyd

QUICK = {"lost_after": "1s"}


def new_server() -> Server:
    """Return a new database with the schema on the session's server."""
    return postgresql.new_database(*postgresql.of_session())


@contextlib.contextmanager
def hosts(folder: Path, *names: str, server: Server, **changes: Any) -> Iterator[list[Premblyd]]:
    """Run a daemon for each of `names` on the same database. `hosts` has keys beside the name."""
    with contextlib.ExitStack() as opened:
        daemons = []
        for name in names:
            own = folder / name
            own.mkdir()
            settings = changes | {"hosts": {"name": name} | changes.get("hosts", QUICK)}
            daemons.append(opened.enter_context(Premblyd(own, place=server, **settings)))
        for daemon in daemons:
            daemon.start()
        yield daemons
