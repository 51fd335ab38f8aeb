"""premblyd console: prints a sign-in link, and lists who is signed in."""

from pathlib import Path

import click

from premblyd import presence
from premblyd.cli import config_option, json_option
from premblyd.cli.as_service import is_managed
from premblyd.cli.caller import actor
from premblyd.cli.common import database_of, open_to_change, open_to_read, settings_if_valid
from premblyd.cli.printing import Column, print_json, print_listed, print_told
from premblyd.config.values import Listen, listen
from premblyd.features.console import access
from premblyd.features.console.settings import CONSOLE, Role
from premblyd.ground.errors import NotFoundError, PremblydError, TryAgainError
from premblyd.ground.words import counted

SESSIONS = (
    Column("id"),
    Column("who", "actor"),
    Column("role"),
    Column("from", "remote_ip"),
    Column("since (UTC)", "since_ms", kind="time"),
    Column("until (UTC)", "until_ms", kind="time"),
)


@click.command()
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.OPERATE.value,
    show_default=True,
    help="What the link allows.",
)
@click.option("--sessions", is_flag=True, help="List who is signed in.")
@click.option("--end", metavar="SESSION", help="End a session, by its number, or `all`.")
@config_option
@json_option
def console(
    config_path: Path,
    *,
    role: str,
    sessions: bool,
    end: str | None,
    as_json: bool,
) -> None:
    """The link signs in one browser, within ten minutes. Anyone who may write the database can make
    one. Its role: `look` shows everything but personal data; `operate` also allows to reveal
    personal data, which is recorded each time, and to replay, cancel and pause.

    --sessions lists who is signed in, and --end 7 signs one of them out.
    """
    if sessions and end is not None:
        raise click.UsageError("Give --sessions or --end, not both.")
    if sessions:
        database = open_to_read(database_of(config_path))
        rows = access.sessions(database, database.now_ms())
        print_listed(SESSIONS, rows, empty="Nobody is signed in.", as_json=as_json)
    elif end is not None:
        _end_session(config_path, end, as_json)
    else:
        _offer_link(config_path, Role(role), as_json)


def _offer_link(config_path: Path, role: Role, as_json: bool) -> None:
    settings = settings_if_valid(config_path)
    configured = CONSOLE.of(settings) if settings else None
    path = database_of(config_path)
    database = open_to_change(path)
    running = presence.find(path, config_path)
    if running is None:
        start = "sudo systemctl start premblyd" if is_managed(config_path) else "premblyd serve"
        raise TryAgainError(f"premblyd is not running. Start it with `{start}`, and try again.")
    if running.console is None:
        if configured is not None:
            restart, log = "restart premblyd", "its log"
            if is_managed(config_path):
                restart, log = "`sudo systemctl restart premblyd`", "`sudo journalctl -u premblyd`"
            raise TryAgainError(
                "The configured console is not open. If it was added after the start,"
                f" {restart}; if not, {log} says why (console.not_opened)."
            )
        raise PremblydError(
            f"The console is off. Add `console: {{listen: 127.0.0.1:8081}}` to {config_path}, then"
            " restart premblyd."
        )
    token = access.new_token()
    database.transact(access.offer_link(token, actor(), role, database.now_ms()))
    where = listen(running.console)
    public_url = configured.url if configured else None  # its name behind a proxy
    link = f"{public_url or _url(where)}/sign-in?link={token}"
    if as_json:
        life_s = access.LINK_LIFE_MS // 1000
        print_json({"url": link, "listen": running.console, "role": role, "expires_in_s": life_s})
        return
    click.echo(link)
    if not public_url:
        target = where.unix_path or f"{where.host}:{where.port}"
        click.echo(
            f"From another machine, first: ssh -L {where.port or 8081}:{target} THIS-HOST", err=True
        )


def _end_session(config_path: Path, which: str, as_json: bool) -> None:
    if which != "all" and not (which.isascii() and which.isdigit() and len(which) < 19):
        raise click.UsageError(f"{which!r} is neither a session's number nor `all`.")
    database = open_to_change(database_of(config_path))
    chosen = None if which == "all" else {int(which)}
    ended = database.transact(access.end_sessions(chosen, actor(), database.now_ms()))
    if not ended and chosen is not None:
        raise NotFoundError(
            f"There is no session {which}. `premblyd console --sessions` lists them."
        )
    print_told({"ended": ended}, f"Ended {counted(ended, 'session')}.", as_json=as_json)


def _url(where: Listen) -> str:
    if where.unix_path:
        return "http://localhost:8081"
    is_everywhere = where.host in ("0.0.0.0", "::")  # noqa: S104
    return f"http://localhost:{where.port}" if is_everywhere else f"http://{where}"
