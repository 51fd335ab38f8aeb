"""JMESPath expressions as operators write them: `when`, `fields`, `send: {select: …}`. Begin with
Expression.

A foreign document meets an operator's expression here, and their product may be work without
end. So work is counted in steps, not in time: a busy machine must fail nobody's activation.
jmespath's interpreter counts them, in the second half.
"""

import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jmespath
from jmespath import functions, visitor
from jmespath.exceptions import JMESPathError, LexerError, ParseError

from premblyd.ground import jsontext
from premblyd.ground.errors import PremblydError

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

    def looks_at(self, names: Collection[str]) -> set[str]:
        """Return which of the `names` of the outermost document it looks at: all of them where it
        takes the whole, as `values(@)` and `*` do."""
        nodes = list(outer_nodes(self.tree))
        if any(node["type"] in ("current", "identity") for node in nodes):
            return set(names)
        return {str(node["value"]) for node in nodes if node["type"] == "field"}

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


def outer_nodes(node: Any) -> Iterator[Any]:
    """Yield the nodes that look at the outermost document."""
    yield node
    if node["type"] == "expref":
        return
    children = node.get("children", [])
    if node["type"] in LEFT_ONLY:
        is_same = node["type"] in ("subexpression", "pipe") and children[0]["type"] == "current"
        children = children[1:2] if is_same else children[:1]  # @.outcome is outcome
    for child in children:
        if isinstance(child, dict):
            yield from outer_nodes(child)


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


# Returns the steps of a function by its arguments; it may stop counting beyond a number of steps.
Cost = Callable[[Any, int], int]


class TooManyStepsError(PremblydError):
    """An expression took more steps than it may."""


class Interpreter(visitor.TreeInterpreter):
    """jmespath's interpreter, which counts its steps: one for each node that it visits, and for
    what it does at once as many as its size asks for, before it does it."""

    def __init__(self, steps: int) -> None:
        super().__init__(visitor.Options(custom_functions=_Functions(self)))
        self.left = steps

    def spend(self, steps: int) -> None:
        """Count `steps`. Raise TooManyStepsError when fewer are left."""
        self.left -= steps
        if self.left < 0:
            raise TooManyStepsError

    def visit(self, node: Any, value: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise TooManyStepsError
        return _VISITS[node["type"]](self, node, value)

    def visit_comparator(self, node: Any, value: Any) -> Any:
        left, right = node["children"]
        left, right = self.visit(left, value), self.visit(right, value)
        if isinstance(left, str | list | dict) and isinstance(right, str | list | dict):
            self.spend(_cost_of_comparing(left, right, self.left))
        compare = self.COMPARATOR_FUNC[node["value"]]
        if node["value"] in _EQUALITY or (_is_ordered(left) and _is_ordered(right)):
            return compare(left, right)
        return None

    def visit_flatten(self, node: Any, value: Any) -> Any:
        base = self.visit(node["children"][0], value)
        if isinstance(base, list):
            merged = sum(len(inner) if isinstance(inner, list) else 1 for inner in base)
            self.spend(max(len(base), merged) >> 2)
        return super().visit_flatten(_FLATTEN, base)

    def visit_slice(self, node: Any, value: Any) -> Any:
        self.spend(len(value) >> 2 if isinstance(value, list) else 0)
        return super().visit_slice(node, value)


class _Functions(functions.Functions):
    """jmespath's functions, each of which costs steps by the size of its arguments."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter

    def call_function(self, function_name: str, resolved_args: Any) -> Any:
        cost: Cost = _COSTS.get(function_name, _cost_of_all)
        self._interpreter.spend(cost(resolved_args, self._interpreter.left))
        return super().call_function(function_name, resolved_args)

    def _create_key_func(self, *how: Any) -> Any:
        key_of: Any = super()._create_key_func(*how)  # type: ignore[misc]  # not in its types

        def counted(value: Any) -> Any:
            key = key_of(value)
            self._interpreter.spend(_SORTED * _text_steps(key))
            return key

        return counted

    @functions.signature({"types": []})
    def _func_to_string(self, arg: Any) -> str:
        return arg if isinstance(arg, str) else jsontext.text(arg, separators=(",", ":"))


def _is_ordered(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _text_steps(value: Any) -> int:
    """Return the steps of comparing, finding in or copying a text."""
    return len(value) >> 8 if isinstance(value, str) else 0


def _cost_of_comparing(left: Any, right: Any, limit: int) -> int:
    if not isinstance(left, str) and not isinstance(right, str):
        return min(jsontext.weight(left, limit), jsontext.weight(right, limit))
    return min(_text_steps(left), _text_steps(right))


def _cost_of_all(arguments: list[Any], _: int) -> int:
    """Return the steps of looking at each item, or at each 256 characters."""
    return sum(
        len(value) >> 2 if isinstance(value, list | dict) else _text_steps(value)
        for value in arguments
    )


def _cost_of_writing(arguments: list[Any], limit: int) -> int:
    return sum(jsontext.weight(value, limit) for value in arguments)


def _cost_of_containing(arguments: list[Any], limit: int) -> int:
    if len(arguments) != 2 or not isinstance(arguments[0], list):
        return _cost_of_all(arguments, limit)
    subject, search = arguments
    if isinstance(search, list | dict):
        return jsontext.weight(subject, limit)
    return (len(subject) >> 2) + len(subject) * _text_steps(search)


def _cost_of_joining(arguments: list[Any], limit: int) -> int:
    if len(arguments) != 2 or not isinstance(arguments[1], list):
        return _cost_of_all(arguments, limit)
    separator, items = arguments
    between = len(separator) if isinstance(separator, str) else 0
    return sum(1 + ((len(item) + between) >> 8) for item in items if isinstance(item, str))


def _cost_of_sorting(arguments: list[Any], _: int) -> int:
    items = arguments[0] if arguments and isinstance(arguments[0], list) else []
    return (len(items) * len(items).bit_length() >> 3) + _SORTED * sum(map(_text_steps, items))


def _cost_of_reading(arguments: list[Any], _: int) -> int:
    return sum(len(value) >> 4 for value in arguments if isinstance(value, str))


_FLATTEN: Any = {"type": "flatten", "children": [{"type": "current", "children": []}]}
_EQUALITY = ("eq", "ne")
_VISITS = {  # a lookup for each node costs less than jmespath's cache for each search
    name.removeprefix("visit_"): getattr(Interpreter, name)
    for name in dir(Interpreter)
    if name.startswith("visit_")
}
_SORTED = 18  # comparisons of each value when 250,000 are sorted
_COSTS: dict[str, Cost] = {
    **dict.fromkeys(("length", "type", "to_array", "not_null", "map"), lambda *_: 0),
    **dict.fromkeys(("sort", "sort_by", "max", "min", "max_by", "min_by"), _cost_of_sorting),
    "to_string": _cost_of_writing,
    "to_number": _cost_of_reading,
    "contains": _cost_of_containing,
    "join": _cost_of_joining,
}
