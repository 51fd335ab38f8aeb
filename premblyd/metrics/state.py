"""How things stand now: what the daemon's parts say, and what its record says."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from premblyd.config.models import Config
from premblyd.databases import Place
from premblyd.engines.connections import backend
from premblyd.engines.engine import Sizes
from premblyd.errors import PremblydError

if TYPE_CHECKING:
    from premblyd.record.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What the daemon's parts say."""

    requests: int
    connections: int
    hooks: int
    store_works: bool
    store_error: str | None = None  # of the last commits, even if one worked since


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How things stand. `record` is None when it can't be read."""

    requests: int
    connections: int
    hooks: int
    store_works: bool
    sizes: Sizes
    record: "Standing | None"


def look(runtime: Runtime, place: Place, settings: Config, now_ms: int) -> State:
    """Return how things stand. It reads the database, so not in the loop."""
    return State(
        requests=runtime.requests,
        connections=runtime.connections,
        hooks=runtime.hooks,
        store_works=runtime.store_works,
        sizes=backend(place).sizes(),
        record=_read(place, settings, now_ms, runtime.store_error),
    )


def _read(
    place: Place, settings: Config, now_ms: int, store_error: str | None
) -> "Standing | None":
    # Here, as a daemon that nobody asks has no use for it, and it takes a tenth of a start.
    from premblyd.record import standing

    try:
        return standing.read(place, settings, now_ms, store_error=store_error)
    except PremblydError:
        return None
