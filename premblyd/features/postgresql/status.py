"""What `premblyd status` says of hosts."""

from collections.abc import Iterator

from premblyd.cli.status import Part
from premblyd.features.postgresql import hostlist
from premblyd.features.postgresql.hostlist import KnownHost
from premblyd.ground import times
from premblyd.record.troubles.trouble import Situation


def _alive(situation: Situation) -> list[KnownHost]:
    is_file = situation.path is not None
    return [] if is_file else hostlist.alive(situation.database, situation.now_ms)


def _lines(situation: Situation) -> Iterator[str]:
    for host in _alive(situation):
        since = times.for_people(host.started_at_ms)
        yield (
            f"Host {host.name}: premblyd {host.version} since {since} UTC, hooks running:"
            f" {host.running}."
        )


STATUS = (Part("hosts", _alive, _lines, nothing=[], is_first=True),)
