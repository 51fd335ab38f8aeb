"""No test has a deadline of its own, and none asserts how long something took.

On a busy machine either says that premblyd is wrong where the machine was slow. What hangs is ended
by pytest-timeout alone (`setup.cfg`), and how long things take is measured in `tests/bench`.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.rows import for_each

TESTS = Path(__file__).parent
Found = Iterator[tuple[int, str]]
# A number for one of these is a deadline. The daemon's own durations are text, as "200ms".
OPTIONS = {"timeout", "timeout_s", "within_s", "request_timeout", "connect_timeout"}
WAITS = {"wait", "join", "result", "communicate"}  # bounded by their first argument
BOUNDED = {"wait_for", "timeout", "timeout_at", "settimeout", "alarm", "fail_after"}
FOREVER = {"FOREVER_S", "FOREVER_MS"}
CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time", "time"}
CLOCKS |= {f"{name}_ns" for name in CLOCKS}
READS_CLOCK = re.compile(r"\b(?:monotonic|perf_counter|process_time|thread_time|time\.time)\w*\(\)")
SECONDS = r"\s*(?:[\d.]|[\w.]*_[sS]\b)"
MAY_BOUND = re.compile(
    rf"\b(?:{'|'.join(WAITS | BOUNDED)})\({SECONDS}|\b(?:wait_for|create_connection)\("
    rf"|\b(?:{'|'.join(OPTIONS)})={SECONDS}|\b(?:timeout_s|within_s)\b"
)
# Where a bound is what is tried, or none of the test's.
REASONED = {
    "conftest.py": "pytest-timeout's, of what takes minutes by itself",
    "faults/clients.py": "it listens until a server falls silent, of which nobody knows when",
    "faults/hooks.py": "how long hostile hooks may run, by their actions",
    "faults/test_hooks.py": "how long hostile hooks may run, by their actions",
    "features/asking/test_cli_reconcile.py": "what must not have ended by then",
    "features/postgresql/test_membership.py": "it stands for the daemon's own",
    "sim/hooks.py": "a hook's own, in virtual time",
    "sim/world.py": "the daemon's own, in virtual time",
    "support/dispatching.py": "the daemon's `stop_timeout`",
    "support/forking.py": "it is all that Popen is",
    "support/proxy.py": "it is configured as a page says",
}


def sources() -> Iterator[tuple[str, str]]:
    """Yield the names and texts of what tests are made of. What benchmarks do is to measure; the
    simulator's time is its own."""
    for path in sorted(TESTS.rglob("*.py")):
        name = str(path.relative_to(TESTS))
        if not name.startswith(("bench/", "sim/")) and name not in REASONED:
            yield name, path.read_text()


def nodes_of(text: str, words: re.Pattern[str]) -> list[ast.AST]:
    """Return all of a module, or nothing where it has none of these words: to parse takes long."""
    return list(ast.walk(ast.parse(text))) if words.search(text) else []


def name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_seconds(value: ast.expr) -> bool:
    """Return whether it is a number, or a name of one."""
    if isinstance(value, ast.Constant):
        return isinstance(value.value, int | float) and value.value != 0
    name = name_of(value)
    return name.lower().endswith("_s") and name not in FOREVER and "pause" not in name.lower()


def deadlines(text: str) -> Found:
    nodes = nodes_of(text, MAY_BOUND)
    paced = {
        id(call)  # `while not stopped.wait(0.1)` paces what goes on
        for loop in nodes
        if isinstance(loop, ast.While)
        for call in ast.walk(loop.test)
    }
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            named = {one.arg for one in (*node.args.args, *node.args.kwonlyargs)}
            yield from ((node.lineno, name) for name in named & {"timeout_s", "within_s"})
        if isinstance(node, ast.Call) and id(node) not in paced:
            called = name_of(node.func)
            bounds = [one.value for one in node.keywords if one.arg in OPTIONS]
            if called in WAITS | BOUNDED:
                bounds += node.args[:1]
            if called in {"wait_for", "create_connection"}:
                bounds += node.args[1:2]
            yield from ((node.lineno, ast.unparse(node)) for bound in bounds if is_seconds(bound))


def durations(text: str) -> Found:
    """Find asserts that compare what was measured: a moment less another."""
    for function in nodes_of(text, READS_CLOCK):
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
                is_measured(compared, moments, measured)
                for compared in ast.walk(node.test)
                if isinstance(compared, ast.Compare)
            ):
                yield node.lineno, ast.unparse(node.test)


def reads_clock(value: ast.AST, moments: set[str]) -> bool:
    return any(
        (isinstance(node, ast.Call) and name_of(node.func) in CLOCKS and not node.args)
        or name_of(node) in moments
        for node in ast.walk(value)
    )


def is_measured(value: ast.AST, moments: set[str], measured: set[str]) -> bool:
    for node in ast.walk(value):
        match node:
            case ast.BinOp(left, ast.Sub(), right):
                found = reads_clock(left, moments) and reads_clock(right, moments)
            case _:
                found = name_of(node) in measured
        if found:
            return True
    return False


def test_no_test_waits_until_a_deadline_or_asserts_a_duration() -> None:
    found = [
        f"{name}:{line}: {what}"
        for name, text in sources()
        for line, what in (*deadlines(text), *durations(text))
    ]
    assert found == []


@for_each(
    ("text", "find"),
    [
        ("process.wait(40)", deadlines),
        ("process.wait(timeout=PATIENCE_S)", deadlines),
        ("with asyncio.timeout(20): pass", deadlines),
        ("await asyncio.wait_for(stop(), 30)", deadlines),
        ("socket.create_connection(address, 5)", deadlines),
        ("def wait(*, timeout_s: float = 40): ...", deadlines),
        ("def f():\n began = time.monotonic()\n assert time.monotonic() - began < 3", durations),
        ("def f():\n a = time.monotonic()\n b = time.monotonic() - a\n assert b < 3", durations),
    ],
)
def test_each_kind_is_found(text: str, find: Callable[[str], Found]) -> None:
    assert [*find(text)]


def test_the_daemons_own_limits_and_pauses_are_none() -> None:
    for text in ('hook(timeout="5m")', "process.wait()", "while not stop.wait(0.1): pass"):
        assert [*deadlines(text)] == []
