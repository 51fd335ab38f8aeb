"""What several commands share: options, time, and printing."""

import getpass
import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from premblyd.values import duration_ms

F = TypeVar("F", bound=Callable[..., Any])
PIPE_WIDTH = 240  # where there is no terminal, nothing is cut to fit one


def config_option(command: F) -> F:
    """Let `--config` stand after the command too; the parameter is `config_path`."""

    def use(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path:
        if value is not None:
            return value
        given: Path = ctx.obj
        return given

    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        callback=use,
        help="The configuration file.",
    )(command)


def json_option(command: F) -> F:
    """Add `--json`; the parameter is `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


class When(click.ParamType[int]):
    """A time: an ISO date or time (UTC unless it says), or how long ago: 30m, 12h, 7d."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return now_ms() - duration_ms(value)
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(
                f"{value!r} is neither a time such as 2026-01-31 nor an age such as 12h or 30d"
                " (at most 366d)"
            )
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)


class Closable(Protocol):
    def close(self) -> object: ...


C = TypeVar("C", bound=Closable)


def until_end(database: C) -> C:
    """Return `database`, which is closed when the command ends."""
    click.get_current_context().call_on_close(database.close)
    return database


def now_ms() -> int:
    """Return Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def iso(ms: int | None) -> str:
    """Return a time for people: UTC, to the second."""
    if ms is None:
        return ""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def actor() -> str:
    """Return who runs this command, for the record of operator actions."""
    user = os.environ.get("SUDO_USER")
    try:
        return user or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def console(*, stderr: bool = False) -> Console:
    """Return where people read."""
    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal:
        made.width = PIPE_WIDTH
    return made


def print_json(value: Any) -> None:
    """Print `value` exactly; control characters stand as JSON's escapes, all of them."""
    lines = json.dumps(value, ensure_ascii=False, indent=2).split("\n")
    click.echo("\n".join(line if line.isprintable() else _escaped(line) for line in lines))


def _escaped(line: str) -> str:
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """Print rows for people, or `empty` when there are none."""
    if not rows:
        click.echo(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in ("id", "at (UTC)", "state"))
    for row in rows:
        table.add_row(*[Text(clean(cell)) for cell in row])
    console().print(table)


def clean(value: object) -> str:
    """Return a value as plain text: a sender's control characters do nothing to a terminal."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def bold(text: str) -> str:
    """Return `text` for click.echo, which leaves the bold out where there is no terminal."""
    return click.style(text, bold=True)


def counted(number: int, one: str, more: str) -> str:
    """Return `1 delivery` or `2 deliveries`."""
    return f"{number} {one if number == 1 else more}"
