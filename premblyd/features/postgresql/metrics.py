"""The metric of hosts."""

from collections.abc import Iterator

from premblyd.features.postgresql import hostlist
from premblyd.record.families import Family
from premblyd.record.troubles.trouble import Situation


def of_hosts(situation: Situation) -> Iterator[Family]:
    """Yield how many work; on a file that is this daemon."""
    is_file = situation.path is not None
    alive = 1 if is_file else len(hostlist.alive(situation.database, situation.now_ms))
    told = "Daemons that work on the database: this one, and on PostgreSQL others."
    yield Family("premblyd_hosts_alive", told, alive)


FAMILIES = (of_hosts,)
