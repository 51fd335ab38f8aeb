"""Reading a configuration file, with every problem at once, and what only a start takes up."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from premblyd.config import yamltext
from premblyd.config.console import Console
from premblyd.config.models import HEALTH_PATH, Config
from premblyd.config.problems import Mistake, conflicts, explain
from premblyd.config.secrets import (
    ForbiddenSecretError,
    SecretPlaces,
    UnusableFileError,
    read_bounded,
)
from premblyd.config.values import Listen
from premblyd.databases import DatabaseAddress, Server
from premblyd.errors import ConfigError, Problem


def _console_place(settings: Config) -> Listen | None:
    return settings.console.listen if settings.console else None


def _database(settings: Config) -> tuple[DatabaseAddress, bool]:
    """Return the database, and whether there is a password: its value is in no digest."""
    place = settings.database
    return place, isinstance(place, Server) and place.password is not None


# By the key in the file. Of the console it is where it listens: the rest of it is reloaded.
ONLY_AT_START: Mapping[str, Callable[[Config], object]] = {
    "listen": lambda settings: settings.listen,
    "database": _database,
    "hosts": lambda settings: (settings.hosts.name, settings.hosts.lost_after_ms),
    "console": _console_place,
}


def is_secret_of_start(place: str) -> bool:
    """Return whether a daemon takes up the secret at `place`, as in `Config.secrets`, only when it
    starts: the database's password. (The console's is reloaded.)"""
    key = place.partition(" ")[0]
    return key in ONLY_AT_START and key != "console"


def changed(started: Config, now: Config) -> list[str]:
    """Return the keys whose values `now` are not those that a daemon `started` with."""
    return [key for key, value in ONLY_AT_START.items() if value(started) != value(now)]


def at_start(settings: Config) -> dict[str, str]:
    """Return which values these settings have for what only a start takes up."""
    return {key: _digest(value(settings)) for key, value in ONLY_AT_START.items()}


def reloadable(settings: Config) -> str:
    """Return which configuration this is, apart from what only a start takes up."""
    fields = type(settings).model_fields.items()
    others = [name for name, field in fields if (field.alias or name) not in ONLY_AT_START]
    console = (settings.console or Console()).model_copy(update={"listen": None})
    return _digest([console, *((name, getattr(settings, name)) for name in others)])


def _digest(value: object) -> str:
    """Return 12 hex digits, made without any secret's value: a repr has none."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def load_config(
    path: Path, *, look_up_secrets: bool = True, environ: Mapping[str, str] = os.environ
) -> Config:
    """Read the file at `path`. Raise ConfigError with every problem when it can't be used.

    `look_up_secrets=False` leaves secrets unread: auditors may read the database and no secret.
    """
    try:
        text = read_bounded(path).decode()
    except FileNotFoundError:
        raise _unusable(path, "there is no such file; `premblyd init` writes one") from None
    except UnicodeDecodeError:
        raise _unusable(path, "is not UTF-8 text") from None
    except UnusableFileError as error:
        raise _unusable(path, str(error)) from None
    except OSError as error:
        unusable = _unusable(path, f"can't be read: {error.strerror}")
        unusable.lacks_rights = isinstance(error, PermissionError)
        raise unusable from None
    places = SecretPlaces(path.absolute().parent, environ, look_up=look_up_secrets)
    return parse_config(text, path, places)


def parse_config(text: str, path: Path, places: SecretPlaces) -> Config:
    """Read `text` as the file at `path`. Raise ConfigError with every problem, in line order."""
    try:
        document = yamltext.load(text)
    except yamltext.YamlTextError as error:
        raise _unusable(path, str(error), error.mark) from None
    if not isinstance(document.data, dict):
        raise _unusable(path, "should hold keys such as `database:` and `endpoints:`")
    config = None
    lacks_rights = False
    mistakes = list(conflicts(document.data, HEALTH_PATH))
    try:
        config = Config.model_validate(document.data, context=places)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        lacks_rights = any(
            isinstance(detail.get("ctx", {}).get("error"), ForbiddenSecretError)
            for detail in details
        )
        mistakes += _in_words(details, document.data)
    if config is None or mistakes:
        raise ConfigError(
            sorted(
                {_problem(path, document, mistake) for mistake in mistakes},
                key=lambda problem: (problem.line, problem.column, problem.message),
            ),
            lacks_rights=lacks_rights,
        )
    return config


def _in_words(details: Iterable[Any], data: Any) -> Iterator[Mistake]:
    """Yield pydantic's errors in words about the file."""
    for detail in details:
        mistake = explain(detail, data)
        # To pydantic a list whose every item is wrong is empty too: its items are reported already.
        if detail["type"] != "too_short" or not _at(data, mistake.where):
            yield mistake


def _problem(path: Path, document: yamltext.Document, mistake: Mistake) -> Problem:
    mark = document.mark(mistake.where, key=mistake.is_about_key)
    return Problem(file=str(path), line=mark.line, column=mark.column, message=mistake.message)


def _at(data: Any, path: yamltext.Path) -> Any:
    for step in path:
        data = data[step]
    return data


_START = yamltext.Mark(1, 1)


def _unusable(path: Path, message: str, mark: yamltext.Mark = _START) -> ConfigError:
    return ConfigError(
        [Problem(file=str(path), line=mark.line, column=mark.column, message=message)]
    )
