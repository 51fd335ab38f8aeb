"""What is done in transactions, counted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.store import Store


@dataclass
class Cost:
    """What was done in transactions since the last look."""

    statements: int = 0
    rows: int = 0
    locks: set[str] = field(default_factory=set)

    def begin(self) -> None:
        self.statements = self.rows = 0
        self.locks.clear()


@pytest.fixture
def cost(store: Store, monkeypatch: pytest.MonkeyPatch) -> Cost:
    cost, transaction = Cost(), store.call(type)

    def counting(name: str, count: Callable[[Any, tuple[Any, ...]], None]) -> None:
        original = getattr(transaction, name)

        def counted(*args: Any, **values: Any) -> Any:
            result = original(*args, **values)
            count(result, args)
            return result

        monkeypatch.setattr(transaction, name, counted)

    def statement(*_: object) -> None:
        cost.statements += 1

    def rows(result: list[Any], _: object) -> None:
        cost.rows += len(result)

    def row(result: object, _: object) -> None:
        cost.rows += result is not None

    def lock(_: object, args: tuple[Any, ...]) -> None:
        cost.statements += 1
        cost.locks.add(args[1])

    for name in ("_execute", "inserting_many", "changing_many"):
        counting(name, statement)
    counting("rows", rows)
    counting("row", row)
    counting("try_lock", lock)
    return cost
