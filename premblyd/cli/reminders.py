"""What `check` reminds of: what the record says that somebody should do something about."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from premblyd import times
from premblyd.errors import PremblydError

if TYPE_CHECKING:
    from premblyd.config.models import Config

DAYS = 30  # what is older was lived with
DAY_MS = 86_400_000
SHOWN = 3


def reminders(settings: "Config") -> Iterator[str]:
    """Yield what the record of `settings` reminds of; nothing where it can't be read."""
    from premblyd.record import asking
    from premblyd.record.reconciling import open_downtimes
    from premblyd.store.connections import connect_read_only, now_ms

    if settings.prembly is None or settings.prembly.api_key is None:
        return
    with contextlib.suppress(PremblydError):  # no database yet, or none that this user may read
        with contextlib.closing(connect_read_only(settings.database)) as database:
            since_ms = now_ms(database) - DAYS * DAY_MS
            found = open_downtimes(database, since_ms=since_ms)
            given_up = asking.given_up(database, since_ms=since_ms)
        for downtime in found[:SHOWN]:
            since, until = (times.for_people(ms) for ms in (downtime.from_ms, downtime.until_ms))
            yield (
                f"from {since} to {until} UTC no webhook could be stored, and Prembly sends most"
                f" once: `premblyd reconcile --since {downtime.since} --store`"
            )
        if len(found) > SHOWN:
            yield f"... and in {len(found) - SHOWN} more downtimes since then"
        if given_up:
            yield (
                f"asking about {given_up:,} pending verifications was given up in the last {DAYS}"
                " days: `premblyd pending --state given_up`"
            )
