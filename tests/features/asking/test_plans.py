"""How SQLite finds what is awaited."""

from pathlib import Path
from typing import Any

from premblyd.features.asking import awaited
from premblyd.store.engine import Statement
from premblyd.store.sqlite.transaction import compiled
from tests.support.database import reading


def plan(path: Path, statement: Statement, **values: Any) -> str:
    """Return how SQLite finds the rows of a statement."""
    text = compiled(statement)
    with reading(path) as connection:
        steps = connection.execute(f"EXPLAIN QUERY PLAN {text.text}", text.bind(values)).fetchall()
    return " ".join(step[-1] for step in steps)


def test_what_is_due_is_found_in_the_order_in_which_it_is_asked_for(path: Path) -> None:
    """Whoever invents references makes it long: it is not sorted for each question."""
    steps = plan(path, awaited._DUE, now_ms=1, limit=9)
    assert "awaited_turn" in steps
    assert "B-TREE" not in steps
