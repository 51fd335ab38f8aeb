"""jmespath's interpreter with a bound on its work.

A foreign document meets an operator's expression here, and their product may be work without
end. So work is counted in steps, not in time: a busy machine must fail nobody's activation.
"""

from collections.abc import Callable
from typing import Any

from jmespath import functions, visitor

from premblyd import jsontext
from premblyd.errors import PremblydError

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


def _cost_of_nothing(*_: Any) -> int:
    return 0


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
    **dict.fromkeys(("length", "type", "to_array", "not_null", "map"), _cost_of_nothing),
    **dict.fromkeys(("sort", "sort_by", "max", "min", "max_by", "min_by"), _cost_of_sorting),
    "to_string": _cost_of_writing,
    "to_number": _cost_of_reading,
    "contains": _cost_of_containing,
    "join": _cost_of_joining,
}
