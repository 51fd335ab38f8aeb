"""Several daemons on one PostgreSQL database."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from premblyd.features.postgresql.settings import Server
from premblyd.queue.register import Identity
from tests.support import postgresql
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.proxy import Cable

# Soon, but not while a busy machine holds one of them up for a moment.
QUICK = {"lost_after": "2s"}


def identity(name: str, **changes: Any) -> Identity:
    """Return who the daemon of a host is; `changes` name its fields."""
    fields = {"worker": f"{name}:1:boot", "name": name, "pid": 1, "version": "1"}
    return Identity(**{**fields, **changes})


def new_server() -> Server:
    """Return a new database with the schema on the session's server."""
    return postgresql.new_database(*postgresql.of_session())


@contextlib.contextmanager
def hosts(
    folder: Path,
    *names: str,
    server: Server,
    before: str = "",
    environ: Mapping[str, Mapping[str, str]] | None = None,
    **changes: Any,
) -> Iterator[list[Premblyd]]:
    """Run a daemon for each of `names` on the same database. `hosts` has keys beside the name;
    `before` is Python that each runs first; `environ` has variables for some."""
    with contextlib.ExitStack() as opened:
        daemons = []
        for name in names:
            own = folder / name
            own.mkdir()
            settings = changes | {"hosts": {"name": name} | changes.get("hosts", QUICK)}
            daemons.append(opened.enter_context(Premblyd(own, place=server, **settings)))
        for name, daemon in zip(names, daemons, strict=True):
            variables = (environ or {}).get(name, {})
            daemon.start(before, (), (), bool(variables), **variables)
        yield daemons


@contextlib.contextmanager
def cabled() -> Iterator[tuple[Cable, Server, Server]]:
    """Yield a cable to a new database, and the database, straight and by the cable."""
    cluster, template = postgresql.of_session()
    server = postgresql.new_database(cluster, template)
    name = server.url.partition("@/")[2].partition("?")[0]
    with Cable(cluster.folder / f".s.PGSQL.{cluster.port}") as cable:
        yield (cable, server, Server(f"postgresql://{postgresql.SUPERUSER}@{cable.address}/{name}"))


@contextlib.contextmanager
def by_cable(folder: Path, **changes: Any) -> Iterator[tuple[Cable, Server, Premblyd]]:
    """Run a daemon, a, that reaches a new database by a cable; yield that, the database and it."""
    far = folder / "far"
    far.mkdir()
    with (
        cabled() as (cable, server, behind),
        hosts(far, "a", server=behind, **changes) as (daemon,),
    ):
        yield cable, server, daemon


# Each run writes down who it is; the first one of each delivery goes on for long.
_SLOW = """
echo "$PREMBLY_DELIVERY $PREMBLY_ATTEMPT $PREMBLY_WORKER" >> {runs}
test "$PREMBLY_ATTEMPT" != 1 || sleep 300
"""


class Runs:
    """The runs of hooks, as these wrote them down themselves."""

    def __init__(self, folder: Path, script: str = _SLOW, **action: Any) -> None:
        self.path = folder / "runs"
        self.path.touch()
        script = script.format(runs=self.path)
        self.actions = [shell("hook", script, **{"concurrency": 1, **action})]

    def workers(self) -> list[str]:
        """Return on which host each run was, in their order."""
        lines = [line.split() for line in self.path.read_text().splitlines()]
        return [worker.partition(":")[0] for _, _, worker in lines]
