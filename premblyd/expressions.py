"""JMESPath expressions as operators write them: `when`, `fields`, `send: {select: …}`."""

from collections.abc import Collection, Iterator
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

# Nodes whose right side looks inside what the left side found: names there are not ours to check.
_LEFT_ONLY = frozenset(
    {"subexpression", "index_expression", "projection", "value_projection", "flatten", "pipe"}
    | {"filter_projection"}
)


class ExpressionError(ValueError):
    """The text is no JMESPath expression, or names something that does not exist."""


class Expression:
    """A compiled JMESPath expression."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str, *, names: Collection[str] | None = None) -> None:
        """Compile `text`. Raise ExpressionError when it can't be, or when it uses a name outside
        `names`: in JMESPath `"00"` in double quotes is a name, and would silently match nothing."""
        try:
            self._compiled = jmespath.compile(text)
        except (JMESPathError, RecursionError) as error:
            summary = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ExpressionError(f"no JMESPath expression: {summary}") from None
        self.text = text
        for name in _free_names(self._compiled.parsed) if names is not None else ():
            if name not in (names or ()):
                raise ExpressionError(
                    f"unknown name {name!r}; text is written in single quotes, '{name}'."
                    f" Names: {', '.join(names or ())}"
                )

    def search(self, value: Any) -> Any:
        """Return what the expression finds in `value`. Raise EvaluationError when it fails."""
        try:
            return self._compiled.search(value)
        # A foreign document meets an operator's expression inside a library: whatever is raised
        # (JMESPathError, TypeError, RecursionError, …) means "failed for this event".
        except Exception as error:  # noqa: BLE001
            raise EvaluationError(type(error).__name__) from None

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


class EvaluationError(Exception):
    """An expression failed for one event. The text is the failure's kind, never a value."""


def _free_names(node: Any) -> Iterator[str]:
    """Yield the names that `node` looks up in the outermost document."""
    if node["type"] == "field":
        yield node["value"]
        return
    if node["type"] == "expref":  # &name is looked up in each item of a list
        return
    children = node.get("children", [])
    for child in children[:1] if node["type"] in _LEFT_ONLY else children:
        if isinstance(child, dict):
            yield from _free_names(child)
