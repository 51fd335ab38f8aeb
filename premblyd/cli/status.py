"""premblyd status"""

import asyncio
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from premblyd import presence
from premblyd.cli import caller
from premblyd.cli.as_service import is_managed
from premblyd.cli.common import database_of, open_to_read, record_options, settings_if_valid
from premblyd.cli.printing import bold, clean, print_json, print_sentence, wrapped
from premblyd.config.models import HEALTH_PATH
from premblyd.feature import added
from premblyd.ground import times
from premblyd.ground.databases import DatabaseAddress, file_of
from premblyd.ground.errors import StoreUnreadableError
from premblyd.ground.httpclient import HttpClient, Request
from premblyd.presence import Presence
from premblyd.record import standing, troubles
from premblyd.record.told import MARKS, Item, Part, Severity, Situation

NEW = "The record is new: it begins at {} UTC, and `once` knows nothing from before that."
HEALTH_TIMEOUT_S = 4.0  # longer than the daemon itself waits for a commit


@dataclass(frozen=True, slots=True)
class _Daemon:
    """What is seen of the daemon that runs here, and a line about it. `health`: what its
    health check says, see `Situation`."""

    line: str = ""
    presence: Presence | None = None
    health: int | None = None
    is_missing: bool = False


@click.command()
@record_options
def status(config_path: Path, *, database: str | None, as_json: bool) -> None:
    """Lists problems, such as dead deliveries, failing actions or an empty wallet, each with what
    to do about it. A problem that has passed is listed for a day.

    Exit status, as Nagios reads it: 0 nothing needs attention, 1 something does, 2 it is urgent:
    webhooks are being lost, or no hooks run. 75 and 78: that is not known.
    """
    place = database_of(config_path, database)
    record, is_served, unreadable, at_ms = None, False, None, times.now_ms()
    try:
        record = open_to_read(place)
        at_ms = record.now_ms()
        is_served = file_of(place) is None and standing.is_served(record, at_ms)
    except StoreUnreadableError as error:
        if database is not None or error.by_user:
            raise
        unreadable = str(error)
    daemon = _Daemon()
    if database is None:
        daemon = _find_daemon(place, config_path, is_elsewhere=is_served or bool(unreadable))
    settings = settings_if_valid(config_path, database)
    readable = None if unreadable else record
    situation = Situation(
        record=readable,
        now_ms=at_ms,
        settings=settings,
        path=file_of(place),
        unreadable=unreadable,
        missing_on=str(place) if daemon.is_missing else None,
        is_managed=is_managed(config_path),
        health=daemon.health,
    )
    items = troubles.items(situation)
    since_ms = standing.since_ms(readable) if readable else None
    if as_json:
        here = daemon.presence
        names = ("pid", "version", "started_at_ms", "listen")
        print_json(
            {
                "ok": not any(item.needs_somebody for item in items),
                "daemon": {name: getattr(here, name) for name in names} if here else None,
                "record_since_ms": since_ms,
                "attention": [item.as_json() for item in items],
            }
            | {
                part.key: part.read(situation) if readable else part.nothing
                for part in added("shown", "STATUS")
            }
        )
    else:
        is_new = since_ms is not None and at_ms - since_ms < times.DAY_MS
        new = NEW.format(times.for_people(since_ms)) if is_new else ""
        if daemon.line:
            print_sentence(daemon.line)
        for text in wrapped(new):
            click.echo(text)
        parts = [*added("shown", "STATUS")] if readable else []
        _print_parts(situation, (part for part in parts if part.is_first))
        _print_items(items)
        _print_parts(situation, (part for part in parts if not part.is_first))
    gravest = max((item.severity for item in items), default=Severity.NOTICE)
    raise SystemExit(gravest - Severity.NOTICE)


def _find_daemon(place: DatabaseAddress, config_path: Path, *, is_elsewhere: bool) -> _Daemon:
    """Return what is seen of the daemon. `is_elsewhere`: another host has one, or may have."""
    daemon = presence.find(place, config_path)
    if daemon is None:
        line = "No daemon with this configuration runs here." if is_elsewhere else ""
        return _Daemon(line, is_missing=not is_elsewhere)
    since, where = times.for_people(daemon.started_at_ms), ", ".join(daemon.listen)
    line = (
        f"premblyd {daemon.version} (pid {daemon.pid}) has been running since {since} UTC; it"
        f" listens on {where}."
    )
    health = asyncio.run(_health(daemon.listen[0])) if daemon.listen else None
    return _Daemon(line, daemon, health)


async def _health(address: str) -> int | None:
    """Return the status with which the daemon answers its health check; 0 if it does not, None if
    it can't be asked."""
    unix_path = address.removeprefix("unix:") if address.startswith("unix:") else ""
    if unix_path and not os.access(unix_path, os.W_OK):
        return None  # only those who pass webhooks on may connect
    host = "localhost" if unix_path else address
    client = HttpClient()
    try:
        request = Request(f"http://{host}{HEALTH_PATH}", [], method="GET")
        answer = await client.send(request, HEALTH_TIMEOUT_S, unix_path=unix_path)
        return answer.status
    finally:
        client.close()


def _print_parts(situation: Situation, parts: Iterable[Part]) -> None:
    for part in parts:
        for text in part.lines(situation):
            for line in wrapped(caller.as_called(text)):
                click.echo(line)


def _print_items(items: Sequence[Item]) -> None:
    grave = troubles.for_people(items)
    for item in grave:
        is_urgent = item.severity is Severity.URGENT
        mark = click.style(MARKS[item.severity], "red" if is_urgent else "yellow", bold=is_urgent)
        first, *more = wrapped(item.text)
        click.echo(f"{mark} {bold(first)}")
        for text in more:
            click.echo(f"   {bold(text)}")
        for text in wrapped(caller.as_called(item.remedy)):
            click.echo(f"    {text}")
        click.echo(f"    {caller.command_as_called(clean(item.command))}")
    if not grave:
        click.echo("Nothing needs attention.")
    for text in wrapped(troubles.needs_nobody(items)):
        click.echo(text)
