"""What is wrong in a configuration file, in words about the file."""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from premblyd.config.yamltext import Path

UNION_TAGS = {"send:word", "send:selection"}  # pydantic's names, not the file's
Found = tuple[Path, str, bool]  # where, what, and whether the key itself is meant


def conflicts(data: Mapping[str, Any], health_path: str) -> Iterator[Found]:
    """Yield what is wrong between values. Works on plain data, so that it speaks even while
    single values are wrong too."""
    endpoints, actions = _mappings(data, "endpoints"), _mappings(data, "actions")
    yield from _twice("endpoints", "name", endpoints)
    yield from _twice("endpoints", "path", endpoints)
    yield from _twice("actions", "name", actions)
    for index, endpoint in endpoints:
        if endpoint.get("path") == health_path:
            yield ("endpoints", index, "path"), f"{health_path} is the daemon's own", False
    for index, action in actions:
        hooks = [kind for kind in ("shell", "command", "http") if kind in action]
        if len(hooks) != 1:
            message = f"should have one of shell, command and http, not {len(hooks)}"
            yield ("actions", index), message, False
        if hooks == ["http"] and "timeout" in action:
            yield ("actions", index, "timeout"), "goes inside `http:`", True
        if hooks == ["http"] and "env" in action:
            yield ("actions", index, "env"), "is for shell and command only", True
        for name in action["env"] if isinstance(action.get("env"), dict) else ():
            if str(name).startswith("PREMBLY_"):
                yield ("actions", index, "env", name), "names with PREMBLY_ are premblyd's", True


def _mappings(data: Mapping[str, Any], key: str) -> list[tuple[int, dict[str, Any]]]:
    items = data.get(key)
    items = items if isinstance(items, list) else []
    return [(index, item) for index, item in enumerate(items) if isinstance(item, dict)]


def _twice(section: str, key: str, items: list[tuple[int, dict[str, Any]]]) -> Iterator[Found]:
    seen: set[str] = set()
    for index, item in items:
        value = item.get(key)
        if isinstance(value, str) and value in seen:
            # A path may hold a secret part, so the value is not repeated here.
            yield (section, index, key), f"this {key} is used twice", False
        elif isinstance(value, str):
            seen.add(value)


def explain(detail: Any, known_keys: Collection[str]) -> Found:
    """Turn one of pydantic's errors into words about the file."""
    where = tuple(part for part in detail["loc"] if part not in UNION_TAGS)
    kind = detail["type"]
    if where and where[-1] == "[key]":  # what is wrong is the key itself
        message = str(detail["ctx"]["error"]) if kind == "value_error" else "is no valid name here"
        return where[:-1], message, True
    match kind:
        case "missing":
            return where[:-1], f"`{where[-1]}` is missing", False
        case "extra_forbidden":
            close = difflib.get_close_matches(str(where[-1]), known_keys, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            return where, f"unknown key `{where[-1]}`{hint}", True
        case "value_error":
            return where, str(detail["ctx"]["error"]), False
        case "model_type" | "model_attributes_type" | "dict_type":
            return where, "should hold keys and values", False
        case "too_short":
            return where, "should not be empty", False
        case "tuple_type":
            return where, "should be a list", False
        case _:
            return where, detail["msg"].replace("Input should", "should"), False
