"""Reading a configuration file, with every problem at once; and which changes need a restart."""

import difflib
import functools
import hashlib
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, ValidationError, create_model

from premblyd.config import hooks, yamltext
from premblyd.config.keys import Mistake, Section, mappings, used_twice
from premblyd.config.models import HEALTH_PATH, Action, Config
from premblyd.config.secrets import (
    ForbiddenSecretError,
    SecretPlaces,
    UnusableFileError,
    read_bounded,
)
from premblyd.config.values import Model, keys_of
from premblyd.feature import added
from premblyd.ground.errors import ConfigError, Problem
from premblyd.ground.words import listed

_UNION_TAGS = {"send:word", "send:selection"}  # pydantic's names, not the file's


@functools.cache
def models() -> tuple[type[Config], type[Action]]:
    """Return the models of the file and of its actions: the core's keys, and the features'."""
    keys: dict[str, Any] = {
        key.name: (key.annotation, key.default) for key in added("settings", "ACTION_KEYS")
    }
    action = create_model("Action", __base__=Action, **keys)
    sections: dict[str, Any] = {each.name: (each.annotation, each.default) for each in _sections()}
    for annotation in added("settings", "DATABASE_VALUES"):
        sections["database_value"] = (annotation, Field(alias="database"))
    sections["actions"] = (tuple[action, ...], ())
    return create_model("Config", __base__=Config, **sections), action


def _sections() -> Iterator[Section[Any]]:
    return added("settings", "SECTIONS")


@functools.cache
def only_at_start() -> Mapping[str, Callable[[Config], object]]:
    """Return what only a start takes up, by the key in the file."""
    sections = {each.name: each.at_start for each in _sections() if each.only_at_start}
    core = {name: operator.attrgetter(name) for name in ("listen", "database")}
    return core | sections


def changed(started: Config, now: Config) -> list[str]:
    """Return the keys with other values `now` than those that a daemon `started` with."""
    return [key for key, value in only_at_start().items() if value(started) != value(now)]


def at_start(settings: Config) -> dict[str, str]:
    """Return which values these settings have for what only a start takes up."""
    return {key: _digest(value(settings)) for key, value in only_at_start().items()}


def reloadable(settings: Config) -> str:
    """Return which configuration this is, apart from what only a start takes up."""
    fields = type(settings).model_fields.items()
    others = [name for name, field in fields if (field.alias or name) not in only_at_start()]
    parts = [each.reloads(each.of(settings)) for each in _sections() if each.reloads]
    return _digest([*parts, *((name, getattr(settings, name)) for name in others)])


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
        missing = "there is no such file; `premblyd init` writes one"
        if os.path.isfile(path.name):
            missing += f", and this folder has one: --config {path.name}"
        raise _unusable(path, missing) from None
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
    mistakes = list(_conflicts(document.data))
    try:
        config = models()[0].model_validate(document.data, context=replace(places, file=path))
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
                {
                    _problem(path, each.message, document.mark(each.where, key=each.is_about_key))
                    for each in mistakes
                },
                key=lambda problem: (problem.line, problem.column, problem.message),
            ),
            lacks_rights=lacks_rights,
        )
    return config


def _in_words(details: Iterable[Any], data: Any) -> Iterator[Mistake]:
    """Yield pydantic's errors in words about the file."""
    for detail in details:
        mistake = _explain(detail, data)
        # To pydantic a list whose every item is wrong is empty too: its items are reported already.
        if detail["type"] != "too_short" or not _at(data, mistake.where):
            yield mistake


def _problem(path: Path, message: str, mark: yamltext.Mark) -> Problem:
    return Problem(file=str(path), line=mark.line, column=mark.column, message=message)


def _at(data: Any, path: yamltext.Path) -> Any:
    for step in path:
        data = data[step]
    return data


_START = yamltext.Mark(1, 1)


def _unusable(path: Path, message: str, mark: yamltext.Mark = _START) -> ConfigError:
    return ConfigError([_problem(path, message, mark)])


def _conflicts(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what is wrong between values. Works on plain data, so that it speaks even while
    single values are wrong too."""
    yield from used_twice(data, "endpoints", "name")
    yield from used_twice(data, "endpoints", "path")
    yield from used_twice(data, "actions", "name")
    for mistakes in added("settings", "MISTAKES"):
        yield from mistakes(data)
    for index, endpoint in mappings(data, "endpoints"):
        if endpoint.get("path") == HEALTH_PATH:
            yield Mistake(("endpoints", index, "path"), f"{HEALTH_PATH} is the daemon's own")


def _explain(detail: Any, data: Any) -> Mistake:
    """Turn one of pydantic's errors about `data` into words about the file."""
    where = _in_file(tuple(part for part in detail["loc"] if part not in _UNION_TAGS), data)
    kind = detail["type"]
    if where and where[-1] == "[key]":  # what is wrong is the key itself
        message = (
            str(detail["ctx"]["error"]) if kind == "value_error" else "is not a valid name here"
        )
        return Mistake(where[:-1], message, is_about_key=True)
    match kind:
        case "missing":
            return Mistake(where[:-1], f"`{where[-1]}` is missing")
        case "extra_forbidden":
            return Mistake(where, _about_unknown_key(where, data), is_about_key=True)
        case "value_error":
            return Mistake(where, str(detail["ctx"]["error"]))
        case "model_type" | "model_attributes_type" | "dict_type":
            return Mistake(where, "should hold keys and values")
        case "too_short":
            return Mistake(where, "should not be empty")
        case "tuple_type":
            return Mistake(where, "should be a list")
        case _:
            return Mistake(where, detail["msg"].replace("Input should", "should"))


def _in_file(where: yamltext.Path, data: Any) -> yamltext.Path:
    """Return where a value of the models stands in the file: a hook's keys are those of what has
    it."""
    match where:
        case (section, index, hooks.GATHERED, *rest):
            kinds = hooks.kinds_in(data[section][index])
            nested = [kind.key for kind in kinds if kind.is_nested() and len(kinds) == 1]
            return (section, index, *nested, *rest)
    return where


def _about_unknown_key(where: yamltext.Path, data: Any) -> str:
    key = str(where[-1])
    model: type[Any] | None = models()[0]
    match where:
        case (section, index, _):
            model = _listed_in(section)
            if model is not None and issubclass(model, hooks.WithHook):
                for kind in hooks.kinds_in(data[section][index]):
                    if key in keys_of(kind):
                        return f"`{key}` goes inside `{kind.key}:`"
                kinds = hooks.KINDS.values()
                owners = [kind.key for kind in kinds if key in kind.keys_in_action()]
                if owners:
                    return f"is for {listed(owners)} only"
    if model is not None and len(inside := _sections_with(key, model)) == 1:
        return f"`{key}` goes inside `{inside[0]}:`"
    others = set(_known_keys()) - {key}  # elsewhere it may be a key
    close = difflib.get_close_matches(key, sorted(others), n=1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return f"unknown key `{key}`{hint}"


def _listed_in(section: str | int) -> type[Model] | None:
    """Return of what a section is a list, if it is one."""
    field = models()[0].model_fields.get(str(section))
    kinds = get_args(field.annotation) if field else ()
    is_list = bool(kinds) and isinstance(kinds[0], type) and issubclass(kinds[0], Model)
    return kinds[0] if is_list else None


def _sections_with(key: str, model: type[Model]) -> list[str]:
    """Return the keys of a model whose values are mappings with this key."""
    return [
        field.alias or name
        for name, field in model.model_fields.items()
        for value in (field.annotation, *get_args(field.annotation))
        if isinstance(value, type) and issubclass(value, Model) and key in keys_of(value)
        if value is not _listed_in(name)
    ]


def _known_keys(model: type[Model] = Model) -> Iterator[str]:
    """Yield every key that a configuration may have."""
    yield from keys_of(model) - {hooks.GATHERED}
    for kind in model.__subclasses__():
        yield from _known_keys(kind)
