"""What features do on the way of a webhook, and when the core has them do it.

In a feature's `hooks.py` the tuple HOOKS has its Hooks, or functions that return them for a
configuration; None: that asks for nothing of it. They run in the transaction of what the core does
there, in the order of premblyd/features/__init__.py, and perhaps twice: they change nothing but the
database.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from premblyd.config.models import Config
from premblyd.feature import added
from premblyd.queue.jobs import Job
from premblyd.store.engine import Transaction
from premblyd.store.states import State


class End(NamedTuple):
    """How a delivery may end: it does not if its claim is gone, say. `job`: whose hook has ended;
    its state is PENDING when that runs again, unless its event was erased."""

    id: int
    state: State
    job: Job | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a feature does at which place; None: nothing."""

    # Before deliveries end: see end.py.
    ending: Callable[[Transaction, Sequence[End]], None] | None = None


class Bound:
    """The hooks of the features that are used: at each place those that do something there."""

    def __init__(self, used: Iterable[Hooks]) -> None:
        self.ending = tuple(each.ending for each in used if each.ending)


def bind(settings: Config | None) -> Bound:
    """Return the hooks that a configuration asks for. None: it is not known, as in a command: of
    all features those that need none."""
    made = (each if isinstance(each, Hooks) else each(settings) for each in added("hooks", "HOOKS"))
    return Bound([each for each in made if each is not None])


def of(transaction: Transaction) -> Bound:
    """Return the hooks that are bound where this transaction runs."""
    found: Bound = transaction.bound or _of_commands()
    return found


@functools.cache
def _of_commands() -> Bound:
    return bind(None)
