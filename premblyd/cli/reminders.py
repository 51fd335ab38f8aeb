"""What `check` reminds of: what the record says that somebody should do something about."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from premblyd import times
from premblyd.databases import Server
from premblyd.errors import PremblydError

if TYPE_CHECKING:
    from premblyd.config.models import Config
    from premblyd.engines.connections import Database
    from premblyd.record.hosts import HostRow

DAYS = 30  # what is older was lived with
DAY_MS = 86_400_000
SHOWN = 3
CLOCK_REMEDY = "`timedatectl` shows it, and whether it is synchronised"


def reminders(settings: "Config") -> Iterator[str]:
    """Yield what the record of `settings` reminds of; nothing where it can't be read."""
    from premblyd.engines.connections import connect_read_only, now_ms
    from premblyd.record import asking
    from premblyd.record.reconciling import open_downtimes

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


def of_clock(settings: "Config") -> Iterator[str]:
    """Yield that the clock is, or was, far from right."""
    from premblyd.engines.connections import connect_read_only, now_ms

    with (
        contextlib.suppress(PremblydError),
        contextlib.closing(connect_read_only(settings.database)) as database,
    ):
        if doubt := clock_doubt(database, now_ms(database)):
            yield f"{doubt}: {CLOCK_REMEDY}"


def clock_doubt(database: "Database", now_ms: int) -> str | None:
    """Return that the record has what is yet to come, by more than a clock is wrong that somebody
    looks after; None if it has not."""
    from premblyd.record import reading

    latest_ms = reading.latest_ms(database)
    if latest_ms is None or latest_ms - now_ms < DAY_MS:
        return None
    now, latest = times.for_people(now_ms), times.for_people(latest_ms)
    return (
        f"the clock says {now} UTC, and an event came at {latest} UTC: it is wrong now, or was then"
    )


def of_hosts(settings: "Config") -> Iterator[str]:
    """Yield what differs between this host and those that work on the same database."""
    from premblyd.engines.connections import connect_read_only, now_ms
    from premblyd.record import hosts

    if not isinstance(settings.database, Server):
        return
    found: list[HostRow] = []
    with (
        contextlib.suppress(PremblydError),
        contextlib.closing(connect_read_only(settings.database)) as database,
    ):
        found = hosts.alive(database, now_ms(database))
    own = settings.hosts
    for host in found:
        if host.name != own.name and host.lost_after_ms not in (None, own.lost_after_ms):
            yield (
                f"lost_after is {_seconds(own.lost_after_ms)} here, and"
                f" {_seconds(host.lost_after_ms)} on {host.name}: each counts as lost after its"
                " own. Set one value for all hosts, and restart them"
            )


def _seconds(ms: int | None) -> str:
    return f"{(ms or 0) / 1000:g}s"
