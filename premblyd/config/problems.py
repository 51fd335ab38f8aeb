"""What is wrong in a configuration file, in words about the file."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from premblyd.config import hooks
from premblyd.config.inquiries import wants_confirmation
from premblyd.config.values import Model, keys_of
from premblyd.config.yamltext import Path

UNION_TAGS = {"send:word", "send:selection"}  # pydantic's names, not the file's


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something that is wrong with the value at a path of the file, or with its key. With the
    place in the text it becomes a `Problem`."""

    where: Path
    message: str
    is_about_key: bool = False


def conflicts(data: Mapping[str, Any], health_path: str) -> Iterator[Mistake]:
    """Yield what is wrong between values. Works on plain data, so that it speaks even while
    single values are wrong too."""
    endpoints, actions = _mappings(data, "endpoints"), _mappings(data, "actions")
    yield from _twice("endpoints", "name", endpoints)
    yield from _twice("endpoints", "path", endpoints)
    yield from _twice("actions", "name", actions)
    yield from _nobody_to_ask(data, actions)
    yield from _twice("alerts", "name", _mappings(data, "alerts"))
    for index, endpoint in endpoints:
        if endpoint.get("path") == health_path:
            yield Mistake(("endpoints", index, "path"), f"{health_path} is the daemon's own")


def _nobody_to_ask(
    data: Mapping[str, Any], actions: list[tuple[int, dict[str, Any]]]
) -> Iterator[Mistake]:
    """Yield what needs an answer of Prembly's, while there is no key to ask with."""
    prembly = data.get("prembly")
    if isinstance(prembly, dict) and "api_key" in prembly:
        return
    message = "asks Prembly, which needs a key: set `prembly: {api_key: {file: …}}`"
    for index, action in actions:
        if wants_confirmation(action.get("confirm")):
            yield Mistake(("actions", index, "confirm"), message)
    if data.get("pending") is not None:
        yield Mistake(("pending",), message, is_about_key=True)


def _mappings(data: Mapping[str, Any], key: str) -> list[tuple[int, dict[str, Any]]]:
    items = data.get(key)
    items = items if isinstance(items, list) else []
    return [(index, item) for index, item in enumerate(items) if isinstance(item, dict)]


def _twice(section: str, key: str, items: list[tuple[int, dict[str, Any]]]) -> Iterator[Mistake]:
    seen: set[str] = set()
    for index, item in items:
        value = item.get(key)
        if isinstance(value, str) and value in seen:
            # A path may hold a secret part, so the value is not repeated here.
            yield Mistake((section, index, key), f"this {key} is used twice")
        elif isinstance(value, str):
            seen.add(value)


def explain(detail: Any, data: Any) -> Mistake:
    """Turn one of pydantic's errors about `data` into words about the file."""
    where = _in_file(tuple(part for part in detail["loc"] if part not in UNION_TAGS), data)
    kind = detail["type"]
    if where and where[-1] == "[key]":  # what is wrong is the key itself
        message = str(detail["ctx"]["error"]) if kind == "value_error" else "is no valid name here"
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


def _in_file(where: Path, data: Any) -> Path:
    """Return where a value of the models stands in the file: a hook's keys are those of its action
    or alert."""
    match where:
        case ("actions" | "alerts" as section, index, hooks.GATHERED, *rest):
            kinds = hooks.kinds_in(data[section][index])
            nested = [kind.key for kind in kinds if kind.is_nested() and len(kinds) == 1]
            return (section, index, *nested, *rest)
    return where


def _about_unknown_key(where: Path, data: Any) -> str:
    key = str(where[-1])
    match where:
        case ("actions" | "alerts" as section, index, _):
            for kind in hooks.kinds_in(data[section][index]):
                if key in keys_of(kind):
                    return f"goes inside `{kind.key}:`"
            kinds = hooks.KINDS.values()
            owners = [kind.key for kind in kinds if key in kind.keys_in_action()]
            if owners:
                return f"is for {' and '.join(owners)} only"
    others = set(_known_keys()) - {key}  # elsewhere it may be a key
    close = difflib.get_close_matches(key, sorted(others), n=1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return f"unknown key `{key}`{hint}"


def _known_keys(model: type[Model] = Model) -> Iterator[str]:
    """Yield every key that a configuration may have."""
    yield from keys_of(model) - {hooks.GATHERED}
    for kind in model.__subclasses__():
        yield from _known_keys(kind)
