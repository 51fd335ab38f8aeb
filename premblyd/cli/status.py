"""premblyd status"""

import asyncio
import dataclasses
import os
import re
import shutil
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from premblyd import times
from premblyd.cli import program, reminders
from premblyd.cli.common import config_option, json_option, until_end
from premblyd.cli.database import database_of, database_option, settings_if_valid
from premblyd.cli.printing import bold, clean, print_json
from premblyd.databases import Place, file_of
from premblyd.errors import StoreUnreadableError

if TYPE_CHECKING:
    from premblyd.presence import Presence
    from premblyd.record.hosts import HostRow
    from premblyd.record.trouble import Item

_NO_BREAK = "\N{NO-BREAK SPACE}"
START = "Start it. If it does not start: `sudo premblyd check`."
HEALTH_TIMEOUT_S = 4.0  # longer than the daemon itself waits for a commit


@click.command()
@database_option
@config_option
@json_option
def status(config_path: Path, *, database: str | None, as_json: bool) -> None:
    """Dead deliveries, failing actions, an empty wallet and such, each with what to do about it.

    Exit status 0: nothing needs anybody. 1: something does. Notices alone don't count. What has
    passed is told for a day.
    """
    from premblyd.engines.connections import connect_read_only, now_ms
    from premblyd.record import attention, hosts

    place = database_of(config_path, database)
    try:
        record = until_end(connect_read_only(place))
    except StoreUnreadableError as error:
        if database is not None or error.by_user:
            raise
        daemon, line, items = _without_record(place, config_path, error)
        _show(daemon, line, [], items, as_json=as_json)
        raise SystemExit(1) from None
    settings = settings_if_valid(config_path, database)
    at_ms = now_ms(record)
    items = attention.items(
        attention.situation(record, at_ms, settings=settings, path=file_of(place))
    )
    if doubt := reminders.clock_doubt(record, at_ms):
        text = f"{doubt[0].upper()}{doubt[1:]}."
        items = [_trouble("clock", text, f"{reminders.CLOCK_REMEDY}.", "timedatectl"), *items]
    alive = [] if file_of(place) else hosts.alive(record, at_ms)
    daemon, line = None, ""
    if database is None:
        daemon, line, trouble = _daemon(place, config_path, alive)
        items = [*trouble, *items]
    _show(daemon, line, alive, items, as_json=as_json)
    raise SystemExit(1 if any(item.needs_somebody for item in items) else 0)


def _show(
    daemon: "Presence | None",
    line: str,
    alive: "Sequence[HostRow]",
    items: "Sequence[Item]",
    *,
    as_json: bool,
) -> None:
    if as_json:
        shown = dataclasses.asdict(daemon) if daemon else None
        if shown is not None:
            shown = {name: shown[name] for name in ("pid", "version", "started_at_ms", "listen")}
        print_json(
            {
                "ok": not any(item.needs_somebody for item in items),
                "daemon": shown,
                "hosts": [dataclasses.asdict(host) for host in alive],
                "items": [item.as_json() for item in items],
            }
        )
    else:
        _print(line, alive, items)


def _daemon(
    place: Place, config_path: Path, alive: "Sequence[HostRow]"
) -> "tuple[Presence | None, str, list[Item]]":
    """Return the daemon that runs on the database, a line that tells of it, and what is wrong with
    it."""
    from premblyd import presence

    try:
        daemon = presence.find(place, config_path)
    except presence.PresenceError as error:
        return None, f"Whether a daemon runs is not known: {error}", []
    if daemon is None and alive:
        return None, "No daemon of this configuration runs here.", []
    if daemon is None:
        text = f"No daemon runs on {place}: webhooks are not answered."
        return (
            None,
            text,
            [
                _trouble(
                    "daemon",
                    text,
                    START,
                    "sudo systemctl start premblyd",
                )
            ],
        )
    line = _line(daemon)
    answer = _health_of(daemon)
    if answer in (200, None):
        return daemon, line, []
    health = f"its health check says {answer}" if answer else "it does not answer its health check"
    trouble = _trouble(
        "database",
        f"The daemon can't keep webhooks now: {health}.",
        "The log says why: a full disk, a database that somebody has locked or moved.",
        "sudo journalctl -u premblyd -n 50",
    )
    return daemon, line, [trouble]


def _without_record(
    place: Place, config_path: Path, error: StoreUnreadableError
) -> "tuple[Presence | None, str, list[Item]]":
    """Return what can be told while the database can't be read: the daemon that runs here, a line
    that tells of it, and what becomes of webhooks."""
    from premblyd import presence

    daemon, line = None, "No daemon of this configuration runs here."
    webhooks = "What webhooks are answered is not known."
    try:
        if (daemon := presence.find(place, config_path)) is not None:
            line, webhooks = _line(daemon), _WEBHOOKS[_health_of(daemon)]
    except presence.PresenceError as reason:
        line = f"Whether a daemon runs is not known: {reason}"
    remedy = (
        "Mend that; no restart is needed. Then ask for what was sent meanwhile:"
        " `premblyd reconcile --store`."
    )
    text = f"{str(error).rstrip('.')}. {webhooks}"
    item = _trouble("database", text, remedy, "sudo journalctl -u premblyd -n 50")
    return daemon, line, [item]


def _line(daemon: "Presence") -> str:
    since, where = times.for_people(daemon.started_at_ms), ", ".join(daemon.listen)
    return (
        f"premblyd {daemon.version} runs since {since} UTC (pid {daemon.pid}), listens on {where}."
    )


def _health_of(daemon: "Presence") -> int | None:
    return asyncio.run(_health(daemon.listen[0])) if daemon.listen else None


async def _health(address: str) -> int | None:
    """Return the status with which the daemon answers its health check; 0 if it does not, None if
    it can't be asked."""
    from premblyd.config.models import HEALTH_PATH
    from premblyd.httpclient import HttpClient, Request

    unix_path = address.removeprefix("unix:") if address.startswith("unix:") else ""
    if unix_path and not os.access(unix_path, os.W_OK):
        return None  # only those who pass webhooks on may connect
    host = "localhost" if unix_path else address
    client = HttpClient(1)
    try:
        request = Request(f"http://{host}{HEALTH_PATH}", [], method="GET")
        answer = await client.send(request, HEALTH_TIMEOUT_S, unix_path=unix_path)
        return answer.status
    finally:
        client.close()


def _trouble(kind: str, text: str, remedy: str, command: str) -> "Item":
    from premblyd.record.trouble import Item, Severity, Target

    return Item(
        kind=kind,
        severity=Severity.URGENT,
        text=text,
        remedy=remedy,
        command=command,
        target=Target(page=""),
        count=1,
    )


def wrapped(text: str) -> list[str]:
    """Return `text` in lines that fit the terminal, or 80 columns. Paths and commands in it stay
    whole, to be pasted."""
    width = max(40, shutil.get_terminal_size((80, 24)).columns) - 4
    whole = re.sub("`[^`]*`", lambda found: found[0].replace(" ", _NO_BREAK), clean(text))
    lines = textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace(_NO_BREAK, " ") for line in lines]


def _print(line: str, alive: "Sequence[HostRow]", items: "Sequence[Item]") -> None:
    if line and not (items and items[0].text == line):
        click.echo(clean(line))
    for host in alive:
        since = times.for_people(host.started_at_ms)
        click.echo(
            clean(
                f"Host {host.name}: premblyd {host.version} since {since} UTC,"
                f" hooks running: {host.running}."
            )
        )
    if not items:
        click.echo("Nothing needs attention.")
        return
    for item in items:
        mark, style = _MARKS[item.severity.name]
        first, *more = wrapped(item.text)
        click.echo(f"{click.style(mark, **style)} {bold(first)}")
        for text in more:
            click.echo(f"   {bold(text)}")
        for text in wrapped(program.as_called(item.remedy)):
            click.echo(f"    {text}")
        click.echo(f"    {program.command_as_called(clean(item.command))}")


_WEBHOOKS: defaultdict[int | None, str] = defaultdict(
    lambda: "Webhooks are answered 503, and hooks wait.",
    {
        200: "The daemon reaches it, and stores webhooks.",
        0: "The daemon does not answer its health check.",
        None: "What webhooks are answered is not known.",
    },
)
_MARKS: dict[str, tuple[str, dict[str, Any]]] = {
    "URGENT": ("!!", {"fg": "red", "bold": True}),
    "WARNING": ("! ", {"fg": "yellow"}),
    "NOTICE": ("- ", {"dim": True}),
}
