"""What `premblyd check` says of hosts."""

from collections.abc import Iterator

from premblyd.config.values import duration_text
from premblyd.features.postgresql import hostlist
from premblyd.features.postgresql.settings import HOSTS, Server
from premblyd.record.troubles.trouble import Situation


def reminders(situation: Situation) -> Iterator[str]:
    """Yield the hosts for which another time than here makes one count as lost."""
    settings = situation.settings
    if settings is None or not isinstance(settings.database, Server):
        return
    own = HOSTS.of(settings)
    for host in hostlist.alive(situation.database, situation.now_ms):
        if host.name != own.name and host.lost_after_ms not in (None, own.lost_after_ms):
            yield (
                f"lost_after is {duration_text(own.lost_after_ms)} here, and"
                f" {duration_text(host.lost_after_ms)} on {host.name}: each counts as lost"
                " after its own. Set one value for all hosts, and restart them"
            )


REMINDERS = (reminders,)
