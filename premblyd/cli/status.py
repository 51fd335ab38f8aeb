"""premblyd status"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import click

from premblyd import presence
from premblyd.cli.common import database_of, open_to_read, record_options, settings_if_valid
from premblyd.cli.printing import bold, clean, print_json, print_sentence, wrapped
from premblyd.config.models import HEALTH_PATH
from premblyd.feature import added
from premblyd.ground import times
from premblyd.ground.databases import file_of
from premblyd.ground.errors import StoreUnreadableError
from premblyd.ground.httpclient import HttpClient, Request
from premblyd.presence import Presence
from premblyd.record import standing, troubles
from premblyd.record.told import MARKS, Item, Severity, Situation

NEW = "The record is new: it begins at {} UTC."
HEALTH_TIMEOUT_S = 4.0  # longer than the daemon itself waits for a commit


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
        record, unreadable = None, str(error)
    daemon = presence.find(place, config_path) if database is None else None
    is_missing = database is None and daemon is None and not is_served and not unreadable
    situation = Situation(
        record=record,
        now_ms=at_ms,
        settings=settings_if_valid(config_path, database),
        path=file_of(place),
        unreadable=unreadable,
        missing_on=str(place) if is_missing else None,
        health_error=asyncio.run(_health_error(daemon)) if daemon else None,
    )
    items = troubles.items(situation)
    since_ms = standing.since_ms(record) if record else None
    parts = [*added("shown", "STATUS")]
    if as_json:
        names = ("pid", "version", "started_at_ms", "listen")
        print_json(
            {
                "ok": not any(item.needs_somebody for item in items),
                "daemon": {name: getattr(daemon, name) for name in names} if daemon else None,
                "record_since_ms": since_ms,
                "attention": [item.as_json() for item in items],
            }
            | {part.key: part.read(situation) if record else part.nothing for part in parts}
        )
    else:
        if daemon:
            since, where = times.for_people(daemon.started_at_ms), ", ".join(daemon.listen)
            about = f"premblyd {daemon.version} (pid {daemon.pid})"
            print_sentence(f"{about} runs since {since} UTC, on {where}.")
        if since_ms is not None and at_ms - since_ms < times.DAY_MS:
            print_sentence(NEW.format(times.for_people(since_ms)))
        _print_items(items)
        for part in parts if record else ():
            for text in part.lines(situation):
                click.echo(wrapped(text))
    gravest = max((item.severity for item in items), default=Severity.NOTICE)
    raise SystemExit(gravest - Severity.NOTICE)


async def _health_error(daemon: Presence) -> str | None:
    """Return what is wrong with how the daemon answers its health check; None if nothing is, or it
    can't be asked."""
    if not daemon.listen:
        return None
    address = daemon.listen[0]
    unix_path = address.removeprefix("unix:") if address.startswith("unix:") else ""
    if unix_path and not os.access(unix_path, os.W_OK):
        return None  # only those who pass webhooks on may connect
    host = "localhost" if unix_path else address
    client = HttpClient()
    try:
        request = Request(f"http://{host}{HEALTH_PATH}", [], method="GET")
        answer = await client.send(request, HEALTH_TIMEOUT_S, unix_path=unix_path)
    finally:
        client.close()
    if answer.status == 200:
        return None
    if not answer.status:
        return "it does not answer its health check"
    return f"its health check says {answer.status}"


def _print_items(items: Sequence[Item]) -> None:
    grave = [item for item in items if item.needs_somebody]
    for item in grave:
        is_urgent = item.severity is Severity.URGENT
        mark = click.style(MARKS[item.severity], "red" if is_urgent else "yellow", bold=is_urgent)
        click.echo(f"{mark} {bold(wrapped(item.text, '   ').lstrip())}")
        click.echo(wrapped(item.remedy, "    "))
        click.echo(f"    {clean(item.command)}")
    if not grave:
        click.echo("Nothing needs attention.")
    for item in items:
        if not item.needs_somebody:
            click.echo(wrapped(item.text))
