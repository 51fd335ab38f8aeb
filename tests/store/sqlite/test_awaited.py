"""What is not settled, on SQLite: it takes a text for a number, and plans by its own rules."""

from pathlib import Path
from typing import Any

from premblyd.engines.engine import Statement
from premblyd.engines.sqlite.transaction import compiled
from premblyd.queue import once, order
from premblyd.verifications import awaited
from tests.support.database import reading


def plan(path: Path, statement: Statement, **values: Any) -> str:
    """Return how SQLite finds the rows of a statement."""
    text = compiled(statement)
    with reading(path) as connection:
        steps = connection.execute(f"EXPLAIN QUERY PLAN {text.text}", text.bind(values)).fetchall()
    return " ".join(step[-1] for step in steps)


def test_events_that_were_missed_are_found_by_their_index(path: Path) -> None:
    """Without it, a start would read all events of three days."""
    assert "event_without_result" in plan(path, awaited.MISSED, since_ms=1, after_ms=1, after_id=1)


def test_what_is_due_is_found_in_the_order_in_which_it_is_asked_for(path: Path) -> None:
    """Whoever invents references makes it long: it is not sorted for each question."""
    steps = plan(path, awaited._DUE, now_ms=1, limit=9)
    assert "awaited_turn" in steps
    assert "B-TREE" not in steps


def test_what_succeeded_earlier_is_found_by_its_reference(path: Path) -> None:
    """And not among all that ever succeeded, or all events of an outcome."""
    names = ("action", "reference", "plain", "outcome", "type", "id")
    steps = plan(path, once._EARLIER, **dict.fromkeys(names, "x"))
    for index in ("event_reference ", "event_reference_key ", "delivery_event "):
        assert index in steps
    assert "delivery_state" not in steps
    assert "event_outcome" not in steps


def test_the_end_of_a_line_is_found_by_its_index(path: Path) -> None:
    """However many wait: it is looked for by each webhook."""
    steps = plan(path, order._LAST, order_key="x", action="x", before=1)
    assert "delivery_order " in steps
    assert "B-TREE" not in steps
