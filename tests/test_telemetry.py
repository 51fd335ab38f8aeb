"""What happened, told once: every event, its line of the log, and whoever else listens."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import premblyd
from premblyd.ground import telemetry
from premblyd.ground.telemetry import events, tell
from tests.support.logs import logged
from tests.support.pages import PAGES
from tests.support.rows import for_each


@for_each("event", events())
def test_every_event_is_a_line_that_the_documentation_lists(event: str) -> None:
    values = {name: f"the {name}" for name in events()[event].fields}
    with logged() as lines:
        tell(event, **{**values, "cause": ValueError("hush")} if "cause" in values else values)
    (line,) = lines
    assert line["event"] == event
    rows = PAGES["docs/monitoring.md"].partition("\n### Every event\n")[2].splitlines()
    assert [row for row in rows if row.startswith("- ") and f"`{event}`" in row]


def _name(function: ast.expr) -> str:
    return str(getattr(function, "attr", getattr(function, "id", "")))


def tellings() -> Iterator[tuple[str, set[str]]]:
    """Yield which events are told in the sources, and with which fields."""
    for module in Path(premblyd.__file__).parent.rglob("*.py"):
        text = module.read_text()
        for node in ast.walk(ast.parse(text)) if re.search(r"tell\(|tell_|failed=", text) else ():
            if isinstance(node, ast.keyword) and node.arg == "failed":  # of a loop
                if isinstance(node.value, ast.Constant):
                    yield str(node.value.value), {"cause"}
            elif isinstance(node, ast.Call) and "tell" in _name(node.func):
                names = {keyword.arg for keyword in node.keywords if keyword.arg} - {"is_logged"}
                for found in ast.walk(node.args[0]) if node.args else ():
                    if isinstance(found, ast.Constant) and str(found.value) in events():
                        yield str(found.value), names


def test_every_event_is_told_with_the_fields_of_its_row() -> None:
    told = list(tellings())
    assert {event for event, _ in told} == set(events())
    for event, names in told:
        fields = events()[event].fields
        needed = {name for name, is_optional in fields.items() if not is_optional}
        assert needed <= names <= set(fields), event


def test_a_line_has_what_applies_and_whoever_listens_hears_it_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[Any] = []
    hear = lambda event, fields: heard.append((event, fields))  # noqa: E731
    monkeypatch.setattr(telemetry, "LISTENERS", [*telemetry.LISTENERS, hear])
    told: dict[str, Any] = {
        "endpoint": "prembly",
        "remote_ip": "::1",
        "reason": "no",
        "body_bytes": None,
    }
    with logged() as lines:
        tell("webhook.rejected", **told, hint=None)
    assert lines == [{"event": "webhook.rejected", "log_level": "warning", **told}]
    assert heard == [("webhook.rejected", told | {"hint": None})]
    for outcome, level in (("succeeded", "info"), ("failed", "warning"), ("timed_out", "warning")):
        with logged() as lines:
            tell("attempt.finished", outcome=outcome, state="dead")
        assert lines[0]["log_level"] == level


def test_a_line_for_which_there_is_no_memory_is_left_out_and_who_tells_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def remember(_: str, __: Mapping[str, Any]) -> None:
        raise MemoryError

    monkeypatch.setattr(telemetry, "LISTENERS", [remember, *telemetry.LISTENERS])
    with logged() as lines:
        tell("store.unavailable", reason="the disk is full")
    assert len(lines) == 1
