"""The options that every list has: events, deliveries, rejections and pending."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from premblyd.cli.common import config_option, json_option
from premblyd.cli.database import database_option
from premblyd.cli.printing import clean

F = TypeVar("F", bound=Callable[..., Any])
MAX_ROWS = 1_000_000_000


def list_options(command: F) -> F:
    """Add `--limit`, `--wide`, `--database`, `--config` and `--json`; the parameters are `limit`,
    `wide`, `database`, `config_path` and `as_json`."""
    for option in (json_option, config_option, database_option, _wide_option, _limit_option):
        command = option(command)
    return command


def note(*unknown: str | None) -> None:
    """Say, of each name that an empty list was asked for and that nobody knows, that it is none."""
    for words in filter(None, unknown):
        click.echo(f"note: {clean(words)}", err=True)


def _limit_option(command: F) -> F:
    return click.option(
        "--limit",
        default=50,
        show_default=True,
        type=click.IntRange(1, MAX_ROWS),
        help="Show at most this many.",
    )(command)


def _wide_option(command: F) -> F:
    return click.option("--wide", is_flag=True, help="Show every column, whole.")(command)
