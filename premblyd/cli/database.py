"""Which database a command reads: it needs no more of the configuration than that."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from premblyd.errors import ConfigError

if TYPE_CHECKING:
    from premblyd.config.models import Config

F = TypeVar("F", bound=Callable[..., Any])


def database_option(command: F) -> F:
    """Add `--database`, for commands that need nothing else of the configuration."""
    return click.option(
        "--database",
        metavar="PATH",
        help="Read this database, such as a copy, and no configuration.",
    )(command)


def database_path(config_path: Path, database: str | None = None) -> Path:
    """Return the path of `--database`, else of the database that the configuration names.

    Other mistakes in the configuration are no obstacle, as people look at the record in the middle
    of an incident: a note on standard error says that there are some. Raise ConfigError when the
    database can't be told from it.
    """
    from premblyd.config.load import load_config

    if database is not None:
        return Path(database.removeprefix("sqlite:///"))
    try:
        return load_config(config_path, look_up_secrets=False).database_path
    except ConfigError as error:
        named = _database_named_in(config_path)
        if named is None:
            raise
        number = len(error.problems)
        what = "a problem" if number == 1 else f"{number} problems"
        click.echo(f"note: {config_path} has {what}: `premblyd check` tells.", err=True)
        return named


def settings_if_valid(config_path: Path, database: str | None = None) -> "Config | None":
    """Return the configuration; None with `--database`, and while it has mistakes: what only
    explains the record does without."""
    from premblyd.config.load import load_config

    if database is not None:
        return None
    try:
        return load_config(config_path, look_up_secrets=False)
    except ConfigError:
        return None


def _database_named_in(config_path: Path) -> Path | None:
    """Return the database that the file names, whatever else is in it; None if it names none or,
    where it is no YAML, more than one."""
    from premblyd.config import yamltext
    from premblyd.config.values import sqlite_path

    try:
        text = config_path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
    lines = [line for line in text.splitlines() if line.startswith("database:")]
    sources = [text, lines[0]] if len(lines) == 1 else [text]
    for source in sources:
        try:
            document = yamltext.load(source).data
            if isinstance(document, dict) and "database" in document:
                return sqlite_path(document["database"], config_path.absolute().parent)
        except ValueError:  # no YAML, or no database's URL
            continue
    return None
