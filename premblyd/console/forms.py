"""What people type into the console's filters, read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

from premblyd.config.values import When
from premblyd.errors import PremblydError
from premblyd.record.filters import Chosen, Filter, Reads
from premblyd.record.lists import Cursor, Part

C = TypeVar("C", bound=Chosen)
YES = ("yes",)
MAX_CHARACTERS = 200
MAX_ID = 2**63 - 1


@dataclass(slots=True)
class Form:
    """The fields of a filter: what was typed, and what is wrong with it."""

    typed: Mapping[str, str]
    mistakes: dict[str, str] = field(default_factory=dict)

    def chosen(
        self, kind: type[C], offered: Iterable[Filter], now_ms: int, fixed: Mapping[str, Any]
    ) -> C:
        """Return which rows were asked for by the filters that are `offered`."""
        return kind(**{each.field: self._value(each, now_ms) for each in offered}, **fixed)

    def _value(self, each: Filter, now_ms: int) -> Any:
        match each.reads:
            case Reads.WORD:
                return self.word(each.name, each.choices)
            case Reads.YES:
                return self.word(each.name, YES) is not None
            case Reads.TIME:
                return self.time(each.name, now_ms)
            case Reads.EVENT | Reads.ROW:
                return self._id(each.name)
        return self.text(each.name)

    def text(self, name: str) -> str | None:
        """Return what was typed, None for nothing."""
        text = self.typed.get(name, "").strip()
        if len(text) > MAX_CHARACTERS:
            self.mistakes[name] = f"should have {MAX_CHARACTERS} characters at most"
            return None
        return text or None

    def word(self, name: str, allowed: tuple[str, ...]) -> str | None:
        """Return one of `allowed`, None for nothing."""
        value = self.text(name)
        if value is not None and value not in allowed:
            self.mistakes[name] = f"should be one of {', '.join(allowed)}"
            return None
        return value

    def time(self, name: str, now_ms: int) -> int | None:
        """Return a time: an ISO date or time, UTC unless it says, or how long ago."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return When.read(value).by(now_ms)
        except ValueError:
            self.mistakes[name] = "should be a time such as 2026-01-31 14:00, or an age such as 12h"
            return None

    def require(self) -> None:
        """Raise PremblydError where something is wrong with what was typed."""
        if self.mistakes:
            raise PremblydError("; ".join(f"{name} {what}" for name, what in self.mistakes.items()))

    def place(self) -> Cursor:
        """Return which part of the list was asked for. Raise PremblydError for what is no row's
        number."""
        return Cursor(before=self._id("before"), after=self._id("after"))

    def _id(self, name: str) -> int | None:
        value = self.typed.get(name, "")
        if not value:
            return None
        if not value.isascii() or not value.isdigit() or len(value) > MAX_CHARACTERS:
            raise PremblydError(f"`{name}` should be a row's number.")
        return min(int(value), MAX_ID)

    def query(self, **changes: Any) -> str:
        """Return the query of this filter's URL, with `changes`: None leaves a field out."""
        kept = {
            name: value
            for name, value in self.typed.items()
            if value and name not in ("before", "after")
        }
        kept.update(changes)
        return urlencode({name: value for name, value in kept.items() if value is not None})


def ways(form: Form, part: Part[Any]) -> dict[str, str | None]:
    """Return the queries of the parts beside this one, and of the two ends."""
    at_top = part.newer is None
    at_bottom = part.older is None
    return {
        "newest": None if at_top else form.query(),
        "newer": None if at_top else form.query(after=part.newer),
        "older": None if at_bottom else form.query(before=part.older),
        "oldest": None if at_bottom else form.query(after=0),
    }
