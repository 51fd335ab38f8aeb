"""What several commands share: options, values that people type, and which database to use. A
command on the record needs nothing else from the configuration."""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from premblyd.cli import config_option, json_option
from premblyd.config import yamltext
from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.config.secrets import read_bounded
from premblyd.config.values import When, sqlite_path
from premblyd.feature import added
from premblyd.ground.databases import DatabaseAddress, EncryptedFile, is_plain
from premblyd.ground.errors import ConfigError
from premblyd.store.connections import connect_operator, connect_read_only
from premblyd.store.engine import Database

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
MAX_ROW_ID = 2**63 - 1  # what SQLite can hold


def database_option(command: F) -> F:
    """Add `--database`, for commands that need nothing else of the configuration."""
    return click.option(
        "--database",
        metavar="PATH",
        help="Read this database (a path or postgresql://…) instead of the configured one.",
    )(command)


def record_options(command: F) -> F:
    """Add `--database`, `--config` and `--json`."""
    return database_option(config_option(json_option(command)))


def count_option(name: str, default: int, most: int, words: str) -> Callable[[F], F]:
    """Add an option for how many, from 1 to `most`."""
    kind = click.IntRange(1, most)
    return click.option(
        name, default=default, show_default=True, metavar="N", type=kind, help=words
    )


class Typed(click.ParamType[T]):
    """What people type as a `name`, and what `read` makes of it: None, or a ValueError, for what is
    in `words`."""

    def __init__(self, name: str, read: Callable[[str], T | None], words: str) -> None:
        self.name = name
        self._read = read
        self._words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        with contextlib.suppress(ValueError):
            if (found := self._read(str(value))) is not None:
                return found
        self.fail(f"{str(value)!r} is {self._words}", param, ctx)


def row_id(text: str) -> int | None:
    """Return the number of a row, such as a delivery's; None for a text that can be none."""
    is_number = re.fullmatch(r"\d{1,19}", text, re.ASCII)
    return int(text) if is_number and 1 <= int(text) <= MAX_ROW_ID else None


_WHEN_WORDS = "neither a time such as 2026-01-31 nor an age such as 12h or 30d (at most 366d)"
WHEN = Typed("TIME", When.read, _WHEN_WORDS)
ROW_ID = Typed("ID", row_id, "not a number such as 17")


def open_to_read(place: DatabaseAddress) -> Database:
    """Return the record there, until the command ends."""
    return _until_end(connect_read_only(place))


def open_to_change(place: DatabaseAddress) -> Database:
    """Return the record there, to be written while daemons run, until the command ends."""
    return _until_end(connect_operator(place))


def _until_end(database: Database) -> Database:
    return click.get_current_context().with_resource(contextlib.closing(database))


def database_of(config_path: Path, database: str | None = None) -> DatabaseAddress:
    """Return the database of `--database`, where a file that is encrypted has the configured key;
    else the one that the configuration names, whatever other mistakes it has: people look at the
    record in the middle of an incident. Raise ConfigError when it can't be told from it,
    click.BadParameter for what can't be a database."""
    if database is None:
        try:
            return load_config(config_path, look_up_secrets=False).database
        except ConfigError as error:
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                named = yamltext.load(read_bounded(config_path).decode()).data["database"]
                if not str(named).startswith("sqlite:"):
                    return database_of(config_path, named)
                path = sqlite_path(named, config_path.absolute().parent)
                if is_plain(path):
                    return path
            raise error from None
    try:
        for typed in added("settings", "TYPED_ADDRESSES"):
            address: DatabaseAddress | None = typed(database)
            if address is not None:
                return address
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--database") from None
    path = Path(database.removeprefix("sqlite:///"))
    if os.access(path, os.R_OK) and is_plain(path) is False:
        settings = settings_if_valid(config_path)
        if settings and isinstance(settings.database, EncryptedFile):
            return EncryptedFile(path, settings.database.key_path)
    return path


def settings_if_valid(config_path: Path, database: str | None = None) -> Config | None:
    """Return the configuration; None with `--database`, and while it has mistakes: what only
    explains the record does without."""
    if database is None:
        with contextlib.suppress(ConfigError):
            return load_config(config_path, look_up_secrets=False)
    return None
