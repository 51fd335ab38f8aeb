"""JMESPath expressions as operators write them: `when`, `fields`, `send: {select: …}`.

The steps that an expression may take are bounded here; `interpreter` counts them.
"""

import warnings
from collections.abc import Collection, Iterator
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError, LexerError, ParseError

from premblyd.errors import PremblydError
from premblyd.interpreter import Interpreter, TooManyStepsError

# A step takes about half a microsecond; a filter over 1,000 objects takes 5,000.
EXPRESSION_STEPS = 200_000
EVENT_STEPS = 300_000  # for all `when`, or all `fields`, that one event meets
TRIAL_STEPS = 5_000  # for the same in a trial, which runs on the loop: 3 ms
LEAST_STEPS = 2_000  # for each, even when the others used up the budget: a simple one never fails
MAX_CHARS = 10_000
MAX_DEPTH = 200  # of nodes; each takes three of Python's 1,000 frames

# Nodes whose right side looks inside what the left side found: any name may be there.
LEFT_ONLY = frozenset(
    {"subexpression", "index_expression", "projection", "value_projection", "flatten", "pipe"}
    | {"filter_projection"}
)
_LITERALS = ("true", "false", "null")


class ExpressionError(PremblydError, ValueError):
    """The text is no JMESPath expression, or names something that does not exist."""


class EvaluationError(PremblydError):
    """An expression failed for one event. The text is the failure's kind, never a value."""


class TrialTooLongError(PremblydError):
    """The expressions of a webhook take more steps than a trial on the loop may. Evaluate them all
    again on another thread, with a whole budget: that alone decides whether an expression fails."""


class Budget:
    """The steps that several expressions share."""

    __slots__ = ("_left", "is_trial")

    def __init__(self, steps: int | None = None, *, is_trial: bool = False) -> None:
        """Allow `steps`: by default EVENT_STEPS, and TRIAL_STEPS for a trial. In a trial, an
        expression that needs more raises TrialTooLongError."""
        self._left = steps or (TRIAL_STEPS if is_trial else EVENT_STEPS)
        self.is_trial = is_trial

    def allowance(self) -> int:
        """Return how many steps the next expression may take."""
        least = 0 if self.is_trial else LEAST_STEPS
        return min(EXPRESSION_STEPS, max(self._left, least))

    def spend(self, steps: int) -> None:
        """Count what an expression took."""
        self._left -= steps


class Expression:
    """A compiled JMESPath expression."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str, *, names: Collection[str] | None = None) -> None:
        """Compile `text`. Raise ExpressionError when it can't be, or when it uses a name outside
        `names`: in JMESPath `"00"` in double quotes is a name, and would silently match nothing."""
        if len(text) > MAX_CHARS:
            raise ExpressionError(f"no JMESPath expression: longer than {MAX_CHARS:,} characters")
        try:
            with warnings.catch_warnings():
                # Backticks around a text that is no JSON are an old spelling that works.
                warnings.simplefilter("ignore", PendingDeprecationWarning)
                self._compiled = jmespath.compile(text)
        except (JMESPathError, RecursionError) as error:
            raise ExpressionError(_why(error)) from None
        self.text = text
        if _depth(self.tree) > MAX_DEPTH:
            raise ExpressionError("no JMESPath expression: nested too deeply")
        for name in _free_names(self.tree) if names is not None else ():
            if name not in (names or ()):
                raise ExpressionError(_unknown(name, names or ()))

    @property
    def tree(self) -> Any:
        """What the text consists of: jmespath's nodes, with `type`, `children` and `value`."""
        tree: Any = self._compiled.parsed
        return tree

    def names(self) -> set[str]:
        """Return all names in the text that look something up, in whichever depth."""
        waiting, found = [self.tree], set()
        while waiting:
            node = waiting.pop()
            if node["type"] == "field":
                found.add(str(node["value"]))
            waiting.extend(child for child in node.get("children", []) if isinstance(child, dict))
        return found

    def search(self, value: Any, budget: Budget | None = None) -> Any:
        """Return what the expression finds in `value`, within `budget` (default: one of its
        own). Raise EvaluationError when it fails."""
        allowance = budget.allowance() if budget else EXPRESSION_STEPS
        interpreter = Interpreter(allowance)
        try:
            return interpreter.visit(self._compiled.parsed, value)
        except TooManyStepsError:
            if budget and budget.is_trial:
                raise TrialTooLongError from None
            raise EvaluationError("too many steps") from None
        # A foreign document meets an operator's expression inside a library: whatever is raised
        # (JMESPathError, TypeError, RecursionError, …) means "failed for this event".
        except Exception as error:  # noqa: BLE001
            raise EvaluationError(type(error).__name__) from None
        finally:
            if budget:
                budget.spend(allowance - max(0, interpreter.left))

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def _depth(tree: Any) -> int:
    """Return how deeply nodes are nested. (Not by recursion: a chain of pipes has no end.)"""
    depth = 0
    level = [tree]
    while level:
        depth += 1
        level = [
            child for node in level for child in node.get("children", []) if isinstance(child, dict)
        ]
    return depth


def _why(error: Exception) -> str:
    if isinstance(error, ParseError) and error.token_type == "NUMBER":  # noqa: S105
        return f"a number is written in backticks, `{error.token_value}`"
    if isinstance(error, LexerError) and error.token_value == "=":  # noqa: S105
        return "no JMESPath expression: `=` alone is none; `==` compares"
    summary = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"no JMESPath expression: {summary}"


def _unknown(name: str, names: Collection[str]) -> str:
    literal = name.lower()
    if literal in _LITERALS:
        return (
            f"unknown name {name!r}; true, false, null and numbers are written in backticks,"
            f" `{literal}`"
        )
    return (
        f"unknown name {name!r}; text is written in single quotes, '{name}'."
        f" Names: {', '.join(names)}"
    )


def _free_names(node: Any) -> Iterator[str]:
    """Yield the names that `node` looks up in the outermost document."""
    if node["type"] == "field":
        yield node["value"]
        return
    if node["type"] == "expref":  # &name is looked up in each item of a list
        return
    children = node.get("children", [])
    for child in children[:1] if node["type"] in LEFT_ONLY else children:
        if isinstance(child, dict):
            yield from _free_names(child)
