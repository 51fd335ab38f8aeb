"""Expressions: what is compiled, and that no document and no expression is work without end."""

import contextlib
import functools
import json
import math
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premblyd.ground import expressions
from premblyd.ground.expressions import (
    EVENT_STEPS,
    EXPRESSION_STEPS,
    LEAST_STEPS,
    Budget,
    EvaluationError,
    Expression,
    ExpressionError,
    Interpreter,
    TrialTooLongError,
)
from tests.support.rows import for_each

ITEMS = [{"id": number, "name": f"n{number}", "tags": ["a", "b"]} for number in range(1000)]
REAL = {"data": {"items": ITEMS, "face": {"Status": True}}, "outcome": "verified"}
EMPTY_LISTS: dict[str, Any] = {"a": [[] for _ in range(100_000)]}
DOUBLED = " | ".join(["[@, @]"] * 40)


def steps(text: str, document: Any) -> int:
    interpreter = Interpreter(10**9)
    interpreter.visit(Expression(text).tree, document)
    return 10**9 - interpreter.left


@for_each(
    "text",
    [
        "outcome == 'verified' && data.face.Status != `false`",
        "data.items[?id > `500`].name",
        "max_by(data.items, &id).name",
        "{names: data.items[*].name, count: length(data.items)}",
    ],
)
def test_an_ordinary_expression_takes_a_small_part_of_its_steps(text: str) -> None:
    assert steps(text, REAL) < EXPRESSION_STEPS * 0.05
    assert Expression(text).search(REAL) == jmespath.search(text, REAL)


@for_each(
    "text",
    [
        "a[?@ == `[]`] | [?@ == `[]`]",
        "a[*].[@, @, @, @]",
        "sort_by(a, &to_string(@))",
        f"({DOUBLED}) == ({DOUBLED})",
        f"to_string(@ | {DOUBLED})",
        "a | " + " | ".join(["[@, @][]"] * 40),
    ],
)
def test_what_is_work_without_end_fails_for_the_event(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expressions, "EXPRESSION_STEPS", EXPRESSION_STEPS // 50)
    with pytest.raises(EvaluationError, match=r"^too many steps$"):
        Expression(text).search({"a": EMPTY_LISTS["a"][: 100_000 // 50]})


@for_each(
    "text",
    ["contains(t, 'y')", "t == u", "reverse(t)", "to_number(t)", "join(t, [t, t, t])",
     "[t, t, t, t, t] | sort(@)", "to_string([t])"],
)  # fmt: skip
def test_long_texts_cost_steps(text: str) -> None:
    assert steps(text, {"t": "1" * 2_000_000, "u": "1" * 1_999_999 + "2"}) > 2_000_000 / 300


def test_whether_an_expression_fails_depends_on_no_clock() -> None:
    exact = steps(Expression("a[?@ == `[]`]").text, {"a": [[]] * 1000})
    for allowed, fails in ((exact, False), (exact - 1, True)):
        budget = Budget(allowed)
        # Each expression has LEAST_STEPS: use up what is more than the budget.
        assert (budget.allowance() < exact) is (fails and exact > LEAST_STEPS)


def test_expressions_share_the_steps_of_an_event_and_a_simple_one_never_goes_without() -> None:
    budget, taken = Budget(), 0
    greedy = Expression("a[*].[@, @, @, @]")
    for _ in range(5):
        taken += budget.allowance()
        with pytest.raises(EvaluationError):
            greedy.search(EMPTY_LISTS, budget)
    assert taken <= EVENT_STEPS + 5 * LEAST_STEPS
    assert budget.allowance() == LEAST_STEPS
    assert Expression("length(a) > `1` && outcome == `null`").search(EMPTY_LISTS, budget) is True


def test_a_trial_that_is_too_small_decides_nothing() -> None:
    expression = Expression("a[0] == `[]`")
    assert expression.search(EMPTY_LISTS, Budget(100, is_trial=True)) is True
    with pytest.raises(TrialTooLongError):
        Expression("a[*].length(@)").search(EMPTY_LISTS, Budget(100, is_trial=True))
    trial = Budget(8, is_trial=True)
    expression.search(EMPTY_LISTS, trial)
    with pytest.raises(TrialTooLongError):
        expression.search(EMPTY_LISTS, trial)


@for_each(
    "text",
    ["(" * 5000 + "a" + ")" * 5000, "|".join("a" * 4000), "!" * 9000 + "a", "a" + "[0]" * 3000,
     "a" + "[]" * 4000, "`" + "[" * 4000 + "]" * 4000 + "`", "a" * 10_001, "&" * 5000 + "a"],
)  # fmt: skip
def test_a_text_that_is_nested_without_end_is_refused_or_evaluated(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        Expression(text, names=("a",)).search({"a": [[1]]})


def test_the_deepest_expression_that_is_taken_is_evaluated() -> None:
    text = "|".join("@" * (expressions.MAX_DEPTH - 1))
    assert Expression(text).search({"a": 1}) == {"a": 1}
    with pytest.raises(ExpressionError, match="nested too deeply"):
        Expression(text + "|@|@")


def test_the_result_of_to_string_is_json() -> None:
    document = {"a": [math.nan, math.inf, "é"]}
    assert json.loads(Expression("to_string(a)").search(document)) == [None, None, "é"]


jsons = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text("ab"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=12,
)
TEXTS = [
    "a", "a.b", "a[0]", "a[-1]", "a[1:]", "a[::-1]", "a[*].b", "*.a", "a[]", "a[].b[]", "a[?b]",
    "a[?b == c]", "a == b", "a != b", "a < b", "a >= `1`", "!a", "a || b", "a && b", "[a, b]",
    "{x: a, y: b}", "a | b", "`1`", "'x'", "@", "keys(@)", "values(@)", "length(a)",
    "sort(a)", "sort_by(a, &b)", "max(a)", "min_by(a, &b)", "sum(a)", "avg(a)", "contains(a, b)",
    "to_array(a)", "a[?contains(@, 'a')]", "join('-', a)", "merge(a, b)", "map(&b, a)",
    "reverse(a)", "not_null(a, b)", "to_number(a)",
    "type(a)", "starts_with(a, b)", "abs(a)", "ceil(a)", "nothing(a)", "length()",
]  # fmt: skip


@given(jsons, st.sampled_from(TEXTS))
def test_within_its_steps_it_finds_what_jmespath_finds(document: Any, text: str) -> None:
    def outcome(search: Any) -> str:
        try:
            return repr(search())
        except EvaluationError:
            return "failed"
        except Exception:  # noqa: BLE001
            return "failed"

    ours = functools.partial(Expression(text).search, document)
    assert outcome(ours) == outcome(functools.partial(jmespath.search, text, document))
