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
    done = write()
    for ended in hooks.of(transaction).ended:
        ended(transaction, ends)
    return done


def lock(transaction: Transaction, delivery_ids: Sequence[int]) -> None:
    """Lock what changes when these end, or are queued again, before anything of them is changed."""
    for locks in hooks.of(transaction).lock:
        locks(transaction, delivery_ids)


def may_end(transaction: Transaction, delivery: Due) -> bool:
    """Return whether a claim may end a due delivery; else the next one does."""
    return not any(keeps(transaction, delivery) for keeps in hooks.of(transaction).keeps_open)
