"""How far each walk of `retention` has come: its bookmark, which moves in the transaction that
changes what it has passed.

A bookmark is a hint. Without it the walk begins anew, and finds nothing to do where it has been.
"""

from typing import NamedTuple

from premblyd.engines.engine import Statement, Transaction, insert, param, update
from premblyd.model.keeptables import Sweep


class Bookmark(NamedTuple):
    """The last row that a walk has passed, by the time and the number in whose order it goes."""

    at_ms: int
    row_id: int


START = Bookmark(-(1 << 62), 0)


def read(transaction: Transaction, name: str) -> Bookmark:
    """Return where the walk of this name has come to."""
    row = transaction.row(_READ, removed=name)
    if row is None or not all(isinstance(value, int) for value in row):
        return START
    return Bookmark(*row)


def move(transaction: Transaction, name: str, to: Bookmark) -> None:
    """Have the walk of this name go on behind `to`."""
    if not transaction.change(_MOVE, removed=name, **to._asdict()):
        transaction.insert(_SET, removed=name, **to._asdict())


def forget_all(transaction: Transaction) -> None:
    """Have all walks begin anew."""
    transaction.change(_FORGET_ALL)


_HAS_NAME = Sweep.removed == param("removed")
_READ = Statement(Sweep.select(Sweep.at_ms, Sweep.row_id).where(_HAS_NAME))
_MOVE = update(Sweep, "at_ms", "row_id", where=_HAS_NAME)
_SET = insert(Sweep, "removed", "at_ms", "row_id")
_FORGET_ALL = Statement(Sweep.delete())
