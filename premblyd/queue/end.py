"""The one way out: whatever ends deliveries, in whatever process, does it by `end`."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from premblyd.queue import hooks
from premblyd.queue.hooks import End
from premblyd.queue.jobs import Due
from premblyd.store.engine import Transaction

Done = TypeVar("Done")


def end(transaction: Transaction, ends: Sequence[End], write: Callable[[], Done]) -> Done:
    """End deliveries by what `write` does, and have features do what they do then."""
    for ending in hooks.of(transaction).ending:
        ending(transaction, ends)
    return write()


def may_end(transaction: Transaction, delivery: Due) -> bool:
    """Return whether a claim may end a due delivery; else the next one does."""
    return not any(keeps(transaction, delivery) for keeps in hooks.of(transaction).keeps_open)
