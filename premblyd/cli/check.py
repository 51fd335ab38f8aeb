"""premblyd check"""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from premblyd.cli.common import config_option, json_option
from premblyd.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from premblyd.config import Action, Config
    from premblyd.values import Secret


@click.command()
@config_option
@json_option
def check(config_path: Path, as_json: bool) -> None:
    """Every problem is listed at once, as FILE:LINE:COLUMN: MESSAGE."""
    from premblyd import config
    from premblyd.errors import ConfigError

    try:
        settings = config.load(config_path)
    except ConfigError as error:
        if not as_json:
            raise
        problems = [
            {"file": p.file, "line": p.line, "column": p.column, "message": p.message}
            for p in error.problems
        ]
        print_json({"ok": False, "problems": problems})
        raise SystemExit(error.exit_code) from None
    routes = _routes(settings)
    warnings = list(_warnings(settings, config_path))
    if as_json:
        print_json({"ok": True, "routes": dict(routes), "warnings": warnings})
        return
    endpoints = ", ".join(
        f"{one.name} ({one.scheme}, keys: {', '.join(one.keys)})" for one in settings.endpoints
    )
    click.echo(f"{config_path} is valid.")
    click.echo(f"Listens on {settings.listen}; endpoints: {endpoints}\n")
    rows = [(code, ", ".join(names) or "none: stored only") for code, names in routes]
    print_table(("response code", "actions"), rows, empty="")
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def _routes(settings: "Config") -> list[tuple[str, list[str]]]:
    """Return which actions each response code chooses; `when` is shown, not decided."""
    from premblyd.hooks.matching import Matching

    matching = Matching(settings.actions)

    def names(code: str | None) -> list[str]:
        return [
            f"{action.name} (when {action.when.text})" if action.when else action.name
            for action in matching.by_code(code)
        ]

    routes = [(code, names(code)) for code in sorted(matching.named_codes)]
    return [*routes, ("any other", names("\0")), ("missing", names(None))]


def _warnings(settings: "Config", path: Path) -> Iterator[str]:
    secrets = list(_secrets(settings))
    if any(one.source == "text" for one in secrets) and path.stat().st_mode & stat.S_IROTH:
        yield f"{path} holds secrets and others can read it: chmod o-r {path}"
    for endpoint in settings.endpoints:
        if endpoint.scheme == "public-key":
            yield (
                f"endpoint {endpoint.name}: the public-key scheme proves nothing about the body;"
                " use hmac-sha256 if your account sends it"
            )
    wanted = sum(action.concurrency for action in settings.actions)
    if settings.total_concurrency < wanted:
        yield (
            f"concurrency is {settings.total_concurrency} and the actions' own add up to {wanted}:"
            " a slow action may delay others"
        )
    for action in settings.actions:
        if action.command and not _is_executable(action):
            yield f"action {action.name}: {action.command[0]} is not an executable here"


def _secrets(settings: "Config") -> "Iterator[Secret]":
    for endpoint in settings.endpoints:
        yield from endpoint.keys.values()
    for action in settings.actions:
        if action.http and action.http.sign_with:
            yield action.http.sign_with
        if action.http:
            yield from action.http.headers.values()
        yield from action.env.values()


def _is_executable(action: "Action") -> bool:
    from premblyd.hooks.shell import DEFAULT_PATH

    name = action.command[0] if action.command else ""
    return shutil.which(name, path=os.environ.get("PATH", DEFAULT_PATH)) is not None
