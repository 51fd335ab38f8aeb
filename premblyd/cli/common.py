"""What several commands share: options and times."""

import getpass
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from premblyd.config.values import TYPE_PATTERN, When

if TYPE_CHECKING:
    from premblyd.engines.connections import Database

F = TypeVar("F", bound=Callable[..., Any])
MAX_ROW_ID = 2**63 - 1  # what SQLite can hold


def config_option(command: F) -> F:
    """Let `--config` stand after the command too; the parameter is `config_path`."""

    def last_named(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path:
        if value is not None:
            return value
        named_before_command: Path = ctx.obj
        return named_before_command

    return click.option(
        "--config",
        "config_path",
        type=click.Path(readable=False, path_type=Path),
        callback=last_named,
        help="The configuration file.",
    )(command)


def json_option(command: F) -> F:
    """Add `--json`; the parameter is `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


class TypePattern(click.ParamType[str]):
    """A type of events, or a pattern of types: transaction.*"""

    name = "TYPE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        pattern = str(value).lower()
        if not re.fullmatch(TYPE_PATTERN, pattern):
            self.fail(f"{value!r} is no type such as sdk.session, and no pattern such as credit.*")
        return pattern


class WhenType(click.ParamType[When]):
    """A time: an ISO date or time (UTC unless it says), or how long ago: 30m, 12h, 7d."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> When:
        if isinstance(value, When):
            return value
        try:
            return When.read(str(value))
        except ValueError:
            self.fail(
                f"{value!r} is neither a time such as 2026-01-31 nor an age such as 12h or 30d"
                " (at most 366d)"
            )


def time_of(when: When | None, database: "Database") -> int | None:
    """Return a time of the command line, by the clock of the database that it is compared with."""
    from premblyd.engines.connections import now_ms

    if when is None or when.ago_ms is None:
        return when and when.at_ms
    return when.by(now_ms(database))


class RowId(click.ParamType[int]):
    """The number of a row: of a delivery, for example."""

    name = "ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = row_id(str(value))
        return number or self.fail(f"{str(value)!r} is not a number such as 17", param, ctx)


def row_id(text: str) -> int | None:
    """Return the number of a row; None for a text that can be none."""
    is_number = re.fullmatch(r"\d{1,19}", text, re.ASCII)
    return int(text) if is_number and 1 <= int(text) <= MAX_ROW_ID else None


class Closable(Protocol):
    def close(self) -> object: ...


C = TypeVar("C", bound=Closable)


def until_end(database: C) -> C:
    """Return `database`, which is closed when the command ends."""
    click.get_current_context().call_on_close(database.close)
    return database


def actor() -> str:
    """Return who runs this command, for the record of operator actions."""
    user = os.environ.get("SUDO_USER")
    try:
        return user or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
