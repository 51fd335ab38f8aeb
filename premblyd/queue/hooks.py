"""What features do on the way of a webhook, and when the core has them do it.

In a feature's `hooks.py` the tuple HOOKS has its Hooks, or functions that return them for a
configuration; None: that asks for nothing of it. They run in the transaction of what the core does
there, in the order of premblyd/features/__init__.py, and perhaps twice: they change nothing but the
database.

HELD_UNTIL: what returns the query for the time until which an action of this name begins nothing;
nothing, if none holds it now. It is a part of the claim's first statement, see due.py.

TERMS: what returns the terms on which the feature itself stores an action's deliveries of events
with a reference; None: it has none. One feature may.

TURNS: what returns whether it is decided of each delivery of an action whether it begins.

TOLD: the variable that gives hooks `Job.idempotency_key`.

VOUCHED: the words of gates (`Job.vouched`): so hooks are told what each vouches for.

WITHHELD: what returns the condition, on an event of one of these ids, under which nothing that may
name anybody is written any more. It is a part of the statements that write: read before, it would
cost a way to a far server; and what is written and emptied afterwards stays in PostgreSQL's log.
"""

import functools
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from peewee import SQL, Node

from premblyd.config.models import Action, Config
from premblyd.feature import added
from premblyd.ground.times import MachineTime
from premblyd.prembly.payload import Verdict, Webhook
from premblyd.queue.arrivals import Arriving
from premblyd.queue.digests import Digests
from premblyd.queue.jobs import Due, Job
from premblyd.store.engine import Transaction
from premblyd.store.states import State
from premblyd.store.writer import Writer

Resumed = Callable[[Iterable[Job]], Iterable[Job]]


class Arrival(NamedTuple):
    """A webhook or a stored answer, that came as a new event or again; with `has_deliveries`, for
    some action. `webhook`: None: its event was there before, and has got another delivery.
    `event_id`: None: it is not known yet, as nobody has locked anything for it."""

    event_id: int | None
    webhook: Webhook | None
    is_new: bool
    is_erased: bool = False
    has_deliveries: bool = True


class New(NamedTuple):
    """A delivery that is to be stored, on these `terms`."""

    event_id: int
    reference: str
    action: str
    attempts: int
    now_ms: int
    terms: Any


class Turn(Enum):
    """What a claim decides about a delivery."""

    NOW = auto()  # it may run
    PASSED = auto()  # it is out of the way: over, or due later
    UNKNOWN = auto()  # another host has at this moment what decides it


class End(NamedTuple):
    """How a delivery may end: it does not if its claim is gone, say. `job`: whose hook has ended;
    its state is PENDING when that runs again, unless its event was erased. `due`: as a claim has
    found it."""

    id: int
    state: State
    job: Job | None = None
    due: Due | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a feature does at which place; None: nothing."""

    # What is to be locked before a webhook is stored, on the loop. Then `arrived` knows its id.
    locks: Callable[[Webhook], Iterable[str]] | None = None
    # Before events are stored: asks the database, and returns what then changes what is known of
    # them: which were there before, and which are stored otherwise.
    arriving: Arriving | None = None
    # Behind events and deliveries that were stored: see inbox.py.
    arrived: Callable[[Transaction, Sequence[Arrival]], None] | None = None
    # Behind a new event that was stored erased: its id, and what the webhook has said.
    arrived_erased: Callable[[Transaction, int, Verdict], None] | None = None
    # As `arrived`, but so that nothing is left of it: shows that webhooks can be stored.
    prove: Callable[[Transaction], None] | None = None
    # Stores deliveries on its terms, and returns their ids; some reference's, which are locked.
    store: Callable[[Transaction, Sequence[New]], list[int | None]] | None = None
    locks_to_store: Callable[[Digests, str], Iterable[str]] | None = None
    # In a claim: whose turn it is, of an action with TURNS. What is not to run now is out of the
    # way then. And such a one begins: its job's `idempotency_key`.
    turn: Callable[[Transaction, int], Callable[[Due], Turn]] | None = None
    begin: Callable[[Transaction, Due], str | None] | None = None
    # In a claim: these begin, of actions with gates. Spends an attempt of those that a gate has let
    # pass before, and returns what makes their jobs those of then.
    resume: Callable[[Transaction, Sequence[int]], Resumed] | None = None
    # In a claim: whether this can't end now, as another host has what that changes. Names of the
    # locks of that, when the hook of a job with this `group` has ended: on the loop.
    keeps_open: Callable[[Transaction, Due], bool] | None = None
    locks_to_end: Callable[[str], Iterable[str]] | None = None
    # Before deliveries end, and behind that, of those that have a `group` or of which it is not
    # known: see end.py.
    ending: Callable[[Transaction, Sequence[End]], None] | None = None
    ended: Callable[[Transaction, Sequence[End]], None] | None = None
    # Locks what a command changes that ends these deliveries, or queues them again.
    lock: Callable[[Transaction, Sequence[int]], None] | None = None
    # These are queued again on these terms, if any: the columns of each, as it comes to it.
    again: Callable[[Transaction, Mapping[int, Any]], Callable[[int], Mapping[str, Any]]] | None = (
        None
    )
    # Behind deliveries that somebody has queued again, or made due now.
    anew: Callable[[Transaction, Sequence[int]], object] | None = None
    # With each heartbeat, on the one of several hosts that does what is done once.
    beat: Callable[[Transaction, MachineTime], None] | None = None


class Bound:
    """The hooks of the features that are used: under each name of `Hooks`, a tuple of those that do
    something there."""

    def __init__(self, used: Iterable[Hooks]) -> None:
        used = tuple(used)
        for place in fields(Hooks):
            found = (getattr(each, place.name) for each in used)
            setattr(self, place.name, tuple(filter(None, found)))

    if TYPE_CHECKING:

        def __getattr__(self, place: str) -> tuple[Any, ...]: ...


def bind(settings: Config | None) -> Bound:
    """Return the hooks that a configuration asks for. None: a command knows none, and has those
    that every one asks for."""
    made = (each if isinstance(each, Hooks) else each(settings) for each in added("hooks", "HOOKS"))
    return Bound(each for each in made if each is not None)


def of(place: Transaction | Writer) -> Bound:
    """Return the hooks that are bound for a transaction, or all of a writer's."""
    found: Bound = place.bound or _of_commands()
    return found


def withheld(*event_ids: Node) -> Node:
    """Return the condition of all features. It is asked for once they are imported."""
    asked = (condition(*event_ids) for condition in of_features("WITHHELD"))
    return functools.reduce(operator.or_, asked, SQL("FALSE"))


def runs_erased(action: Action) -> bool:
    """Return whether an action's hook runs, without a body, for what is erased."""
    return any(runs(action) for runs in of_features("RUNS_ERASED"))


def forgotten(transaction: Transaction, names: Collection[str]) -> set[str]:
    """Return those of these names, each a reference or the id of a session, under which nothing may
    be kept."""
    return set().union(*(which(transaction, names) for which in of_features("FORGOTTEN")))


def terms_of(action: Action) -> Any:
    """Return on which terms deliveries of an action are stored; None: on none."""
    return next((its for terms in of_features("TERMS") if (its := terms(action)) is not None), None)


def takes_turns(action: Action) -> bool:
    """Return whether it is decided of each delivery of an action whether it begins."""
    return any(takes(action) for takes in of_features("TURNS"))


@functools.cache
def of_features(name: str) -> Sequence[Any]:
    """Return what stands under this name in their `hooks.py`, once they are imported."""
    return tuple(added("hooks", name))


@functools.cache
def _of_commands() -> Bound:
    return bind(None)
