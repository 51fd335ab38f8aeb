"""What commands print. (Not in `common`: the daemon needs no rich, which takes 4 MB.)"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 240  # where there is no terminal, nothing is cut to fit one


def iso(ms: int | None) -> str:
    """Return a time for people: UTC, to the second."""
    if ms is None:
        return ""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


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
