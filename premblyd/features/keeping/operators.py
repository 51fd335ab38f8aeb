"""What people change in personal data, recorded: who did it and when, without a person's name."""

from collections.abc import Callable
from typing import TypeVar

from premblyd.features.keeping import trusted
from premblyd.queue.heartbeat import machine_start, machine_time
from premblyd.store.engine import Transaction, insert
from premblyd.store.tables import OperatorAction

Done = TypeVar("Done")
Change = Callable[[Transaction], Done]  # within a transaction of its own, see record/operating.py
_RECORD = insert(OperatorAction, "at_ms", "actor", "action", "note")


def write_down(
    transaction: Transaction, actor: str, action: str, now_ms: int, note: str | None = None
) -> None:
    """Put on record that the actor did this. `note` names no person."""
    transaction.insert(_RECORD, at_ms=now_ms, actor=actor, action=action, note=note)


def trust_clock(actor: str, wall_ms: int, note: str) -> Change[None]:
    """Have periods count back from what the clock says now."""

    def trust(transaction: Transaction) -> None:
        trusted.write(transaction, machine_time(wall_ms, machine_start()))
        write_down(transaction, actor, "trust-clock", wall_ms, note)

    return trust
