"""What a hook would do, shown and not done: for `premblyd explain`. No secret's value is in it."""

from dataclasses import dataclass
from typing import Any, TypeVar

from premblyd.config.secrets import Secret
from premblyd.config.values import Model
from premblyd.privacy.documents import MASK

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a hook would do: as `facts` for programs and as `lines` for people."""

    facts: dict[str, Any]
    lines: list[str]


def masked(model: M) -> M:
    """Return the hook or endpoint with a mask for the value of every secret, looked up or not. A
    URL that the configuration gives as text is shown."""
    return model.model_copy(update={name: _mask(value) for name, value in model})


def _mask(value: Any) -> Any:
    match value:
        case Secret(source="text") if value.value and value.value.startswith("http"):
            return value
        case Secret():
            return Secret(value.source, f"{MASK} ({value.source})")
        case dict():
            return {name: _mask(item) for name, item in value.items()}
        case Model():
            return masked(value)
        case _:
            return value
