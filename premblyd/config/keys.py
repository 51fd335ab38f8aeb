"""What a feature adds to the configuration, in its settings.py: `SECTIONS`, keys at the top of the
file; `ACTION_KEYS`, keys of an action; `MISTAKES`, what it says of values that contradict."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from premblyd.config import yamltext
from premblyd.config.models import Action, Config

T = TypeVar("T")


@dataclass(frozen=True)
class _Key(Generic[T]):
    """`name`: as the file and the model have it. `annotation`: how pydantic reads its value."""

    name: str
    annotation: Any
    default: T


@dataclass(frozen=True)
class ActionKey(_Key[T]):
    """A key of an action. `told`: what `check` says of an action that has it, if anything."""

    told: str = ""

    def of(self, action: Action) -> T:
        """Return what it says in this action."""
        found: T = getattr(action, self.name)
        return found


@dataclass(frozen=True)
class Section(_Key[T]):
    """A key at the top of the file. `only_at_start`: what of its value a start alone takes up;
    `reloads`: what of it a reload does. Without the first, all of it."""

    only_at_start: Callable[[T], object] | None = None
    reloads: Callable[[T], object] | None = None

    def of(self, settings: Config) -> T:
        """Return what it says in this configuration."""
        found: T = getattr(settings, self.name)
        return found

    def at_start(self, settings: Config) -> object:
        return self.only_at_start and self.only_at_start(self.of(settings))


def value_of(name: str, model: Config | Action, default: Any = None) -> Any:
    """Return the value of a feature's key, for who goes on without that feature: then `default`."""
    return getattr(model, name, default)


@dataclass(frozen=True, slots=True)
class InitOption:
    """An option of `premblyd init`. `lines`: of the sample, which count then. `make`: makes in the
    folder what they name, and returns what people are told of it. `by_hand`: what they do where
    there is a configuration already."""

    name: str
    help: str
    lines: tuple[str, ...]
    make: Callable[[Path], str]
    by_hand: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something that is wrong with the value at a path of the file, or with its key. With the
    place in the text it becomes a `Problem`."""

    where: yamltext.Path
    message: str
    is_about_key: bool = False


def mappings(data: Mapping[str, Any], key: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the mappings in a list of the file, as far as it is one, with their places in it."""
    items = data.get(key)
    items = items if isinstance(items, list) else []
    return [(index, item) for index, item in enumerate(items) if isinstance(item, dict)]


def used_twice(data: Mapping[str, Any], section: str, key: str) -> Iterator[Mistake]:
    """Yield what two mappings of a list have under the same key."""
    seen: set[str] = set()
    for index, item in mappings(data, section):
        value = item.get(key)
        if isinstance(value, str) and value in seen:
            # A path may hold a secret part, so the value is not repeated here.
            yield Mistake((section, index, key), f"this {key} is used twice")
        elif isinstance(value, str):
            seen.add(value)
