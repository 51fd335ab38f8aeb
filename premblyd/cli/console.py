"""premblyd console"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from premblyd.cli.common import actor, config_option, json_option, until_end
from premblyd.errors import PremblydError, TryAgainError

if TYPE_CHECKING:
    from premblyd.config.console import Console
    from premblyd.config.values import Listen


@click.command()
@click.option("--hash-password", is_flag=True, help="Ask for a password and print its hash.")
@config_option
@json_option
def console(config_path: Path, *, hash_password: bool, as_json: bool) -> None:
    """The link signs one browser in, within ten minutes. Whoever may write the database may have
    one.
    """
    from premblyd import presence
    from premblyd.cli.database import database_of
    from premblyd.cli.printing import print_json
    from premblyd.config.values import listen
    from premblyd.record import access
    from premblyd.store.connections import connect_operator, now_ms, transact

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
