"""How things stand by the record, in one look: what waits, and what needs somebody."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from premblyd.config.models import Config
from premblyd.databases import Place, file_of
from premblyd.engines.connections import connect_read_only
from premblyd.record import attention, hosts, reading, statistics
from premblyd.record.statistics import ActionFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How things stood `at_ms`. `attention` counts the items that need somebody, by kind."""

    at_ms: int
    last_event_ms: int | None
    actions: Sequence[ActionFigures]
    attention: Mapping[str, int]
    hosts_alive: int


def read(
    place: Place, settings: Config, now_ms: int, *, store_error: str | None = None
) -> Standing:
    """Return how things stand. Raise PremblydError when the database can't be read."""
    names = [action.name for action in settings.actions]
    kinds = dict.fromkeys(attention.CHECKS, 0)
    with closing(connect_read_only(place)) as database:
        situation = attention.situation(
            database, now_ms, settings=settings, path=file_of(place), store_error=store_error
        )
        items = attention.items(situation)
        kinds |= Counter(item.kind for item in items if item.needs_somebody)
        return Standing(
            at_ms=now_ms,
            last_event_ms=reading.last_event_ms(database),
            actions=statistics.actions(database, since_ms=now_ms, now_ms=now_ms, names=names),
            attention=kinds,
            hosts_alive=1 if file_of(place) else len(hosts.alive(database, now_ms)),
        )
