"""How things stand now: what the daemon's parts say, and what its record says."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from premblyd.config.models import Config
from premblyd.databases import DatabaseAddress, file_of
from premblyd.engines.connections import backend, connect_read_only
from premblyd.engines.engine import Sizes
from premblyd.errors import PremblydError
from premblyd.metrics.counting import Runtime
from premblyd.record import hosts, reading, statistics
from premblyd.record.statistics import ActionFigures
from premblyd.record.troubles import table
from premblyd.record.troubles.trouble import Situation


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the record says. `attention` counts the items that need somebody, by kind."""

    at_ms: int
    last_event_ms: int | None
    actions: Sequence[ActionFigures]
    attention: Mapping[str, int]
    hosts_alive: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How things stand. `record` is None when it can't be read."""

    runtime: Runtime
    sizes: Sizes
    record: Recorded | None


def look(runtime: Runtime, place: DatabaseAddress, settings: Config, now_ms: int) -> State:
    """Return how things stand. It reads the database, so not in the loop."""
    try:
        record = _read(runtime, place, settings, now_ms)
    except PremblydError:
        record = None
    return State(runtime=runtime, sizes=backend(place).sizes(), record=record)


def _read(runtime: Runtime, place: DatabaseAddress, settings: Config, now_ms: int) -> Recorded:
    names = [action.name for action in settings.actions]
    kinds = {row.kind: 0 for row in table.TROUBLES if row.has_metric}
    with closing(connect_read_only(place)) as database:
        situation = Situation(
            record=database,
            now_ms=now_ms,
            settings=settings,
            path=file_of(place),
            store_error=runtime.store_error,
        )
        items = table.items(situation)
        return Recorded(
            at_ms=now_ms,
            last_event_ms=reading.last_event_ms(database),
            actions=statistics.actions(database, since_ms=now_ms, now_ms=now_ms, names=names),
            attention=kinds | Counter(item.kind for item in items if item.needs_somebody),
            hosts_alive=1 if file_of(place) else len(hosts.alive(database, now_ms)),
        )
