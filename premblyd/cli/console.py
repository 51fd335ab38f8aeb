"""premblyd console"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from premblyd.cli.common import actor, config_option, json_option, until_end
from premblyd.errors import NotFoundError, PremblydError, TryAgainError

if TYPE_CHECKING:
    from premblyd.config.console import Console
    from premblyd.config.values import Listen


@click.command()
@click.option("--hash-password", is_flag=True, help="Ask for a password and print its hash.")
@click.option("--sessions", is_flag=True, help="List who is signed in.")
@click.option("--end", metavar="SESSION", help="End a session, by its number, or `all`.")
@config_option
@json_option
def console(
    config_path: Path, *, hash_password: bool, sessions: bool, end: str | None, as_json: bool
) -> None:
    """The link signs one browser in, within ten minutes. Whoever may write the database may have
    one.

    --sessions lists who is signed in, and --end 7 signs one of them out.
    """
    if hash_password + sessions + (end is not None) > 1:
        raise click.UsageError("--hash-password, --sessions and --end go one at a time.")
    if sessions:
        _list_sessions(config_path, as_json)
        return
    if end is not None:
        _end_session(config_path, end, as_json)
        return
    from premblyd import presence
    from premblyd.cli.database import database_of
    from premblyd.cli.printing import print_json
    from premblyd.config.values import listen
    from premblyd.engines.connections import connect_operator, now_ms, transact
    from premblyd.record import access

    if hash_password:
        _hash_password()
        return
    path = database_of(config_path)
    database = until_end(connect_operator(path))
    running = presence.find(path, config_path)
    if running is None:
        raise TryAgainError("premblyd does not run: `systemctl start premblyd`, then again.")
    if running.console is None:
        if _settings(config_path) is not None:
            raise TryAgainError(
                "The console that the configuration has is not open. If it was added since the"
                " start, `systemctl restart premblyd`; if not, the log says why:"
                " `journalctl -u premblyd | grep console.not_opened`."
            )
        raise PremblydError(
            f"The console is off. Add `console: {{listen: 127.0.0.1:8081}}` to {config_path}, then"
            " restart premblyd."
        )
    token = access.new_token()
    transact(database, access.offer_link(token, actor(), now_ms(database)))
    where = listen(running.console)
    base = _public_url(config_path) or _url(where)
    link = f"{base}/sign-in?link={token}"
    if as_json:
        print_json(
            {"url": link, "listen": running.console, "expires_in_s": access.LINK_LIFE_MS // 1000}
        )
        return
    click.echo(link)
    if not _public_url(config_path):
        target = where.unix_path or f"{where.host}:{where.port}"
        click.echo(
            f"From another machine, first: ssh -L {where.port or 8081}:{target} THIS-HOST", err=True
        )


def _list_sessions(config_path: Path, as_json: bool) -> None:
    from premblyd import times
    from premblyd.cli.database import database_of
    from premblyd.cli.printing import print_json, print_table
    from premblyd.engines.connections import connect_read_only, now_ms
    from premblyd.record import access

    database = until_end(connect_read_only(database_of(config_path)))
    rows = access.sessions(database, now_ms(database))
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    print_table(
        ("session", "who", "by", "from", "since (UTC)", "until (UTC)"),
        [
            (
                row.id,
                row.actor,
                "password" if row.by_password else "link",
                row.remote_ip,
                times.for_people(row.began_at_ms),
                times.for_people(row.expires_at_ms),
            )
            for row in rows
        ],
        empty="Nobody is signed in.",
    )


def _end_session(config_path: Path, which: str, as_json: bool) -> None:
    from premblyd.cli.database import database_of
    from premblyd.cli.printing import print_json
    from premblyd.engines.connections import connect_operator, now_ms, transact
    from premblyd.record import access
    from premblyd.words import counted

    if which != "all" and not (which.isascii() and which.isdigit() and len(which) < 19):
        raise click.UsageError(f"{which!r} is neither a session's number nor `all`.")
    database = until_end(connect_operator(database_of(config_path)))
    chosen = None if which == "all" else {int(which)}
    ended = transact(database, access.end_sessions(chosen, actor(), now_ms(database)))
    if not ended and chosen is not None:
        raise NotFoundError(
            f"There is no session {which}. `premblyd console --sessions` lists them."
        )
    if as_json:
        print_json({"ended": ended})
    else:
        click.echo(f"Ended {counted(ended, 'session')}.")


def _url(where: "Listen") -> str:
    if where.unix_path:
        return "http://localhost:8081"
    host = where.host if where.host not in ("0.0.0.0", "::") else "localhost"  # noqa: S104
    return f"http://[{host}]:{where.port}" if ":" in host else f"http://{host}:{where.port}"


def _public_url(config_path: Path) -> str | None:
    """Return the console's name behind a proxy; None without one, or where it can't be told."""
    settings = _settings(config_path)
    return settings.url if settings else None


def _settings(config_path: Path) -> "Console | None":
    """Return the console as the file has it; None for `off`, or where it can't be told."""
    from premblyd.config.load import load_config
    from premblyd.errors import ConfigError

    try:
        return load_config(config_path, look_up_secrets=False).console
    except ConfigError:
        return None


def _hash_password() -> None:
    from premblyd import passwords

    password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    try:
        click.echo(str(passwords.hashed(password)))
    except ValueError as error:
        raise PremblydError(f"The password {error}.") from None
