"""What people do to what is kept, on record: who did it and when, and nobody's name in it."""

from collections.abc import Callable
from typing import TypeVar

from premblyd.engines.engine import Transaction, insert
from premblyd.model.tables import OperatorAction

Done = TypeVar("Done")
Change = Callable[[Transaction], Done]  # within a transaction of its own, see record/operating.py
_RECORD = insert(OperatorAction, "at_ms", "actor", "action", "note")


def write_down(
    transaction: Transaction, actor: str, action: str, now_ms: int, note: str | None = None
) -> None:
    """Put on record that the actor did this. `note` names no person."""
    transaction.insert(_RECORD, at_ms=now_ms, actor=actor, action=action, note=note)
