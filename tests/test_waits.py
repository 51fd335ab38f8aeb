"""No test has a deadline of its own, and none asserts how long something took.

On a busy machine either says that premblyd is wrong where the machine was slow. What hangs is ended
by pytest-timeout alone (`setup.cfg`), and how long things take is measured in `tests/bench`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# A number for one of these is a deadline. The daemon's own durations are text, as "200ms".
OPTIONS = {"timeout", "timeout_s", "within_s", "request_timeout", "connect_timeout"}
WAITS = {"wait", "join", "result", "communicate"}  # bounded by their first argument
BOUNDED = {"wait_for", "timeout", "timeout_at", "settimeout", "alarm", "fail_after"}
CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time", "time"}
CLOCKS |= {f"{name}_ns" for name in CLOCKS}
# What is bounded because it could not be tried otherwise, and why.
REASONED: dict[str, str] = {}


def sources() -> list[Path]:
    """Return what tests are made of. The benchmarks measure, which is what they are for."""
    return sorted(path for path in TESTS.rglob("*.py") if path.parent != TESTS / "bench")


def name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_bound(value: ast.expr) -> bool:
    """Return whether it may be a number of seconds for which is waited."""
    if isinstance(value, ast.Constant):
        return value.value not in (None, 0) and not isinstance(value.value, str)
    return not isinstance(value, ast.JoinedStr)


def is_number(value: ast.expr) -> bool:
    """Return whether it says seconds: a number, or a name that says so."""
    if isinstance(value, ast.Constant):
        return isinstance(value.value, int | float) and value.value != 0
    return name_of(value).lower().endswith("_s")


def deadlines(tree: ast.AST) -> Iterator[tuple[int, str]]:
    pauses = {
        id(loop.test.operand)  # `while not stopped.wait(0.1)` paces what goes on
        for loop in ast.walk(tree)
        if isinstance(loop, ast.While) and isinstance(loop.test, ast.UnaryOp)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            named = {one.arg for one in (*node.args.args, *node.args.kwonlyargs)}
            yield from ((node.lineno, option) for option in sorted(named & OPTIONS))
        if not isinstance(node, ast.Call) or id(node) in pauses:
            continue
        called = name_of(node.func)
        bounded = [one.arg for one in node.keywords if one.arg in OPTIONS and is_bound(one.value)]
        yield from ((node.lineno, f"{called}(…, {option}=…)") for option in bounded)
        first = node.args[:1]
        if (called in WAITS and any(map(is_number, first))) or (
            called in BOUNDED and any(map(is_bound, first))
        ):
            yield node.lineno, f"{called}({ast.unparse(first[0])})"


def durations(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Find asserts that compare what was measured: a moment less another."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        moments, measured = set[str](), set[str]()
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                names = {name_of(one) for target in node.targets for one in ast.walk(target)} - {""}
                if is_measured(node.value, moments, measured):
                    measured |= names
                elif reads_clock(node.value, moments):
                    moments |= names
        for node in ast.walk(function):
            if isinstance(node, ast.Assert) and any(
                is_measured(one, moments, measured)
                for compared in ast.walk(node.test)
                if isinstance(compared, ast.Compare)
                for one in (compared.left, *compared.comparators)
            ):
                yield node.lineno, ast.unparse(node.test)


def reads_clock(value: ast.AST, moments: set[str]) -> bool:
    return any(
        (isinstance(node, ast.Call) and name_of(node.func) in CLOCKS and not node.args)
        or name_of(node) in moments
        for node in ast.walk(value)
    )


def is_measured(value: ast.AST, moments: set[str], measured: set[str]) -> bool:
    return any(
        name_of(node) in measured
        or (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Sub)
            and all(reads_clock(side, moments) for side in (node.left, node.right))
        )
        for node in ast.walk(value)
    )


@pytest.mark.parametrize("find", [deadlines, durations])
def test_no_test_has_a_deadline_of_its_own_or_asserts_a_duration(find: object) -> None:
    assert callable(find)
    found = [
        f"{path.relative_to(TESTS)}:{line}: {what}"
        for path in sources()
        for line, what in find(ast.parse(path.read_text()))
    ]
    assert [one for one in found if one.partition(":")[0] not in REASONED] == []
