"""How SQLite finds what takes turns."""

from pathlib import Path
from typing import Any

from premblyd.features.turns import once, order
from premblyd.store.engine import Statement
from premblyd.store.sqlite.transaction import compiled
from tests.support.database import reading


def plan(path: Path, statement: Statement, **values: Any) -> str:
    """Return how SQLite finds the rows of a statement."""
    text = compiled(statement)
    with reading(path) as connection:
        steps = connection.execute(f"EXPLAIN QUERY PLAN {text.text}", text.bind(values)).fetchall()
    return " ".join(step[-1] for step in steps)


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
    assert "ordered_line " in steps
    assert "B-TREE" not in steps
