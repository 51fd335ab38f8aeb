"""What happened, told once: every kind, its line of the log, and whoever else listens."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from premblyd import occurrences, telemetry
from premblyd.occurrences import AttemptFinished, Occurrence, StoreUnavailable
from premblyd.telemetry import tell
from tests.support.logs import logged
from tests.support.rows import for_each

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "logs.md").read_text()


KINDS = [
    kind
    for kind in vars(occurrences).values()
    if isinstance(kind, type) and issubclass(kind, Occurrence) and hasattr(kind, "event")
]


def value(kind: type[Occurrence], name: str) -> Any:
    return ValueError("hush") if name == "cause" else f"the {name}"


@for_each("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_a_line_that_the_documentation_lists(kind: type[Occurrence]) -> None:
    names = [field.name for field in fields(kind)]
    with logged() as lines:
        tell(kind(**{name: value(kind, name) for name in names}))
    (line,) = lines
    assert line["event"] == kind.event
    row = next(
        row for row in TABLE.splitlines() if row.startswith("- ") and f"`{kind.event}`" in row
    )
    for name in names:
        words = ("exception", "traceback") if name == "cause" else (name,)
        assert all(re.search(rf"\b{word}\b", row) for word in words), f"{name} is not in: {row}"


def test_no_two_kinds_have_one_name() -> None:
    events = [kind.event for kind in KINDS]
    assert len(events) == len(set(events))


def test_what_does_not_apply_is_left_out_of_the_line() -> None:
    rejected = occurrences.WebhookRejected(
        endpoint="prembly", remote_ip="::1", reason="missing signature", body_bytes=None
    )
    with logged() as lines:
        tell(rejected)
    assert lines == [
        {
            "event": "webhook.rejected",
            "log_level": "warning",
            "endpoint": "prembly",
            "remote_ip": "::1",
            "reason": "missing signature",
            "body_bytes": None,
        }
    ]


@for_each(
    ("outcome", "level"), [("succeeded", "info"), ("failed", "warning"), ("timed_out", "warning")]
)
def test_an_attempt_that_did_not_succeed_is_a_warning(outcome: str, level: str) -> None:
    values: dict[str, Any] = dict.fromkeys([field.name for field in fields(AttemptFinished)], 1)
    with logged() as lines:
        tell(AttemptFinished(**(values | {"outcome": outcome})))
    assert lines[0]["log_level"] == level


def test_whoever_listens_hears_it_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Occurrence] = []
    monkeypatch.setattr(telemetry, "LISTENERS", [*telemetry.LISTENERS, heard.append])
    happened = StoreUnavailable(reason="the disk is full")
    with logged() as lines:
        tell(happened)
    assert heard == [happened]
    assert len(lines) == 1


def test_a_line_for_which_there_is_no_memory_is_left_out_and_who_tells_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def remember(_: Occurrence) -> None:
        raise MemoryError

    monkeypatch.setattr(telemetry, "LISTENERS", [remember, *telemetry.LISTENERS])
    with logged() as lines:
        tell(StoreUnavailable(reason="the disk is full"))
    assert len(lines) == 1
