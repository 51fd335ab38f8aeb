"""What of a configuration only a start takes up. All else is in force after a reload."""

import hashlib
from collections.abc import Callable, Mapping

from premblyd.config.console import Console
from premblyd.config.models import Config
from premblyd.config.values import Listen


def _console_place(settings: Config) -> Listen | None:
    return settings.console.listen if settings.console else None


# By the key in the file. Of the console it is where it listens: the rest of it is reloaded.
ONLY_AT_START: Mapping[str, Callable[[Config], object]] = {
    "listen": lambda settings: settings.listen,
    "database": lambda settings: settings.database,
    "hosts": lambda settings: (settings.hosts.name, settings.hosts.lost_after_ms),
    "console": _console_place,
}
_FIELDS = ("listen", "database_value", "hosts", "console")


def changed(started: Config, now: Config) -> list[str]:
    """Return the keys whose values `now` are not those that a daemon `started` with."""
    return [key for key, value in ONLY_AT_START.items() if value(started) != value(now)]


def at_start(settings: Config) -> dict[str, str]:
    """Return which values these settings have for what only a start takes up."""
    return {key: _digest(value(settings)) for key, value in ONLY_AT_START.items()}


def reloadable(settings: Config) -> str:
    """Return which configuration this is, apart from what only a start takes up."""
    others = [name for name in type(settings).model_fields if name not in _FIELDS]
    console = (settings.console or Console()).model_copy(update={"listen": None})
    return _digest([console, *((name, getattr(settings, name)) for name in others)])


def _digest(value: object) -> str:
    """Return 12 hex digits, made without any secret's value: a repr has none."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]
