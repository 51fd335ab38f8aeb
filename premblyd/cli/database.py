"""Which database a command reads: it needs no more of the configuration than that."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from premblyd.cli import program
from premblyd.databases import DatabaseAddress, Server, holds_password, is_postgresql
from premblyd.errors import ConfigError
from premblyd.words import counted

if TYPE_CHECKING:
    from premblyd.config.models import Config

F = TypeVar("F", bound=Callable[..., Any])


def database_option(command: F) -> F:
    """Add `--database`, for commands that need nothing else of the configuration."""
    return click.option(
        "--database",
        metavar="PATH",
        help="Read this database, such as a copy or postgresql://…, and no configuration.",
    )(command)


def database_of(config_path: Path, database: str | None = None) -> DatabaseAddress:
    """Return the database of `--database`, else the one that the configuration names.

    Other mistakes in the configuration are no obstacle, as people look at the record in the middle
    of an incident: a note on standard error says that there are some. Raise ConfigError when the
    database can't be told from it.
    """
    from premblyd.config.load import load_config

    if database is not None:
        return _database_at(database)
    try:
        return load_config(config_path, look_up_secrets=False).database
    except ConfigError as error:
        named = _database_named_in(config_path)
        if named is None:
            raise
        problems = counted(len(error.problems), "problem")
        note = f"note: {config_path} has {problems}: `premblyd check` tells."
        click.echo(program.as_called(note), err=True)
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


def _database_at(text: str) -> DatabaseAddress:
    """Return the database of `--database`. Raise click.BadParameter for a URL that has a password:
    every user sees it in the list of processes."""
    if not is_postgresql(text):
        return Path(text.removeprefix("sqlite:///"))
    if holds_password(text):
        raise click.BadParameter(
            "leave the password out: libpq takes it from PGPASSWORD or ~/.pgpass.",
            param_hint="--database",
        )
    return Server(text)


def _database_named_in(config_path: Path) -> DatabaseAddress | None:
    """Return the database that the file names, whatever else is in it; None if it names none or,
    where it is no YAML, more than one."""
    from premblyd.config import yamltext
    from premblyd.config.database import database
    from premblyd.config.secrets import UnusableFileError, read_bounded

    try:
        text = read_bounded(config_path).decode()
    except (OSError, UnicodeDecodeError, UnusableFileError):
        return None
    lines = [line for line in text.splitlines() if line.startswith("database:")]
    sources = [text, lines[0]] if len(lines) == 1 else [text]
    for source in sources:
        try:
            document = yamltext.load(source).data
            if isinstance(document, dict) and "database" in document:
                return _place(database(document["database"], config_path.absolute().parent))
        except ValueError:  # no YAML, or no database's URL
            continue
    return None


def _place(found: Path | str) -> DatabaseAddress:
    return found if isinstance(found, Path) else Server(found)
