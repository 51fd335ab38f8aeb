"""Names of one verification, however they look."""

from collections.abc import Sequence

from premblyd.features.names.tables import VerificationName
from premblyd.store.engine import Transaction, insert


def name_one(transaction: Transaction, names: Sequence[str], now_ms: int) -> None:
    """Write down that all of these are names of one verification, whatever they look like."""
    for name in names:
        transaction.write(_NAME, name=name, verification=names[0], at_ms=now_ms)


_NAME = insert(VerificationName, "name", "verification", "at_ms")
