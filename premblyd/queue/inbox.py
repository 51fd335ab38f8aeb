"""Storing webhooks: events with their deliveries in one transaction; and rejections."""

import asyncio
import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from peewee import SQL

from premblyd.config.models import Action
from premblyd.prembly.payload import Webhook
from premblyd.queue import arrivals, hooks
from premblyd.queue.arrivals import (
    INSERT_DELIVERIES,
    INSERT_DELIVERIES_BY_KEY,
    By,
    Known,
    NewEvent,
)
from premblyd.queue.digests import Digests
from premblyd.queue.hooks import Arrival, Bound, New
from premblyd.queue.rejections import REJECT, NewRejection
from premblyd.store.engine import Row, Statement, Transaction, insert, param
from premblyd.store.states import State
from premblyd.store.tables import Delivery, Event, Record
from premblyd.store.writer import Deferred, Operation, Step, Writer


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """An action that the event is for, and how often its hook may run. `terms`: on which a feature
    stores it, see queue/hooks.py. `runs_erased`: also when the event is stored erased."""

    action: str
    attempts: int
    terms: Any = None
    runs_erased: bool = False

    @classmethod
    def of(cls, action: Action) -> Self:
        attempts = action.retry.attempts
        return cls(action.name, attempts, hooks.terms_of(action), hooks.runs_erased(action))


@dataclass(frozen=True, slots=True)
class Added:
    """The event as it is on disk. Not new: it was there already, and nothing will run. Erased: it
    is of a person who was erased, and was stored without what names anybody."""

    event_id: int
    key: str
    is_new: bool
    is_erased: bool = False


class Inbox:
    """Keeps webhooks and rejections. Its futures resolve after the commit."""

    def __init__(self, writer: Writer, will_add: Callable[[], None] = lambda: None) -> None:
        """`will_add` is called before deliveries are handed to the writer: a claim that follows at
        once is in their transaction, behind them."""
        self._writer = writer
        self._digests = Digests(writer.digest_key)
        self._will_add = will_add

    def add(
        self,
        webhook: Webhook,
        deliveries: Sequence[NewDelivery],
        by: By = "body",
    ) -> "asyncio.Future[Added]":
        """Store `webhook` with its deliveries, or count it as a duplicate of one that is stored,
        as the keys `by` this rule tell. Raise StoreUnavailableError when it can't be stored."""
        bound = hooks.of(self._writer)
        event = arrivals.new_event(self._digests, webhook, by)
        addition = _Addition(event, webhook, deliveries)
        names = _lock_names(bound, self._digests, webhook, deliveries)
        for locks in bound.locks:
            names += locks(webhook)
        if names:
            addition = addition._replace(needs_id=True)
        if deliveries:
            self._will_add()
        return self._writer.submit(_adding(bound), addition, names)

    def withdraw(self, added: "asyncio.Future[Added]") -> None:
        """Cancel what `add` returned, if no transaction has begun with it. Else it may be stored
        nevertheless."""
        self._writer.withdraw(added)

    def reject(self, rejection: NewRejection) -> "asyncio.Future[str | None]":
        """Keep `rejection`, and forget the oldest beyond MAX_REJECTIONS. Return the hint that was
        kept with it."""
        return self._writer.submit(REJECT, rejection)

    def prove_commit(self) -> "asyncio.Future[None]":
        """Commit something by all that a webhook needs, and leave nothing of it. Raise
        StoreUnavailableError when the database can't."""
        return self._writer.submit(_PROVE_COMMIT, None)


def add_event(
    transaction: Transaction,
    webhook: Webhook,
    deliveries: Sequence[NewDelivery],
    names: Collection[str] = (),
) -> Added:
    """Store `webhook` with its deliveries in a transaction that does more, and has locked
    `lock_names`. `names`: further ones of its verification."""
    bound = hooks.of(transaction)
    event = arrivals.new_event(Digests.of(transaction), webhook)._replace(names=names)
    known = arrivals.find(transaction, bound.arriving, [event])
    [added] = _add_known(bound, transaction, [_Addition(event, webhook, deliveries)], known)
    return added


def add_delivery(
    transaction: Transaction, event_id: int, delivery: NewDelivery, now_ms: int
) -> int | None:
    """Store one more delivery of an event that is there, and return its id."""
    reference = None
    if delivery.terms is not None and (row := transaction.row(_REFERENCE_OF, id=event_id)):
        (reference,) = row
    if isinstance(reference, str) and reference:
        new = _new(event_id, reference, delivery, now_ms)
        [delivery_id] = _store(hooks.of(transaction), transaction, [new])
    else:
        row = _row(event_id, delivery, now_ms)
        [delivery_id] = transaction.insert_many(INSERT_DELIVERIES, [row])
    for hook in hooks.of(transaction).arrived:
        hook(transaction, [Arrival(event_id, None, is_new=False)])
    return delivery_id


def lock_names(
    transaction: Transaction, webhook: Webhook, deliveries: Sequence[NewDelivery]
) -> Sequence[str]:
    """Return what is locked before `webhook` is stored: so the events of one reference have their
    numbers in the order in which their deliveries run."""
    return _lock_names(hooks.of(transaction), Digests.of(transaction), webhook, deliveries)


def lock_references(transaction: Transaction, references: Iterable[str]) -> None:
    """Lock what is locked before deliveries on terms are stored for these references."""
    locks, digests = hooks.of(transaction).locks_to_store, Digests.of(transaction)
    transaction.lock({name for each in locks for its in references for name in each(digests, its)})


def _lock_names(
    bound: Bound, digests: Digests, webhook: Webhook, deliveries: Sequence[NewDelivery]
) -> list[str]:
    reference = webhook.verdict.reference
    if not reference or not any(delivery.terms for delivery in deliveries):
        return []
    return [name for locks in bound.locks_to_store for name in locks(digests, reference)]


class _Addition(NamedTuple):
    event: NewEvent
    webhook: Webhook
    deliveries: Sequence[NewDelivery]
    needs_id: bool = False  # of what is stored; so does whatever has locked something


@functools.lru_cache(maxsize=16)
def _adding(bound: Bound) -> Operation[_Addition, Added]:
    """Return the operation that adds webhooks under these hooks: the same for all of them."""
    return Operation(Step.ARRIVALS, functools.partial(_arrive, bound))


def _arrive(
    bound: Bound, transaction: Transaction, additions: list[_Addition]
) -> list[Added] | list[Deferred[Added]]:
    """Add as `_add_known` does; where the server is far, ask for no id of an event before the
    commit."""
    known = arrivals.find(transaction, bound.arriving, [addition.event for addition in additions])
    if (
        not transaction.is_far
        or any(addition.needs_id for addition in additions)
        or not arrivals.may_be_stored_later(known)
    ):
        return _add_known(bound, transaction, additions, known)
    new_ids = arrivals.asking_store(transaction, known)
    arrived = _told_apart(known, additions)
    rows = [
        _row(key, each, addition.webhook.received_at_ms)
        for key, addition, is_new in arrived
        if is_new
        for each in addition.deliveries
    ]
    transaction.write_many(INSERT_DELIVERIES_BY_KEY, rows)
    _tell(bound, transaction, arrived, known)

    def added(key: str) -> Added:
        is_new = key in known.new
        return Added(new_ids()[key] if is_new else known.ids[key], key, is_new)

    return [Deferred(functools.partial(added, key)) for key, *_ in arrived]


def _add_known(
    bound: Bound, transaction: Transaction, additions: list[_Addition], known: Known
) -> list[Added]:
    """Store new events with their deliveries, and count the others as duplicates."""
    arrivals.store(transaction, known)
    arrived = _told_apart(known, additions)
    rows: list[Row] = []
    on_terms: list[New] = []
    for key, addition, is_new in arrived:
        event_id, now_ms = known.ids[key], addition.webhook.received_at_ms
        reference = addition.webhook.verdict.reference
        is_erased = key in known.erased  # stands in no line: its event has no reference any more
        for delivery in addition.deliveries if is_new else ():
            if delivery.runs_erased or not is_erased:
                if delivery.terms is None or not reference or is_erased:
                    rows.append(_row(event_id, delivery, now_ms))
                else:
                    on_terms.append(_new(event_id, reference, delivery, now_ms))
    transaction.write_many(INSERT_DELIVERIES, rows)
    if on_terms:
        _store(bound, transaction, on_terms)
    _tell(bound, transaction, arrived, known)
    return [
        Added(known.ids[key], key, is_new, is_erased=key in known.erased)
        for key, _, is_new in arrived
    ]


class _Arrived(NamedTuple):
    key: str
    addition: _Addition
    is_new: bool


def _told_apart(known: Known, additions: list[_Addition]) -> list[_Arrived]:
    """Return which are new: another of a key that is new is a duplicate of it."""
    left = set(known.new)
    arrived = []
    for addition in additions:
        key = addition.event.key
        arrived.append(_Arrived(key, addition, key in left))
        left.discard(key)
    return arrived


def _tell(bound: Bound, transaction: Transaction, arrived: list[_Arrived], known: Known) -> None:
    """Count duplicates, and let features do what they do when something has arrived."""
    again = [
        (known.ids[key], of.webhook.received_at_ms) for key, of, is_new in arrived if not is_new
    ]
    for event_id, at_ms in sorted(again):  # in one order, so that no two hosts wait for each other
        transaction.write(_COUNT_DUPLICATE, id=event_id, at_ms=at_ms)
    told = [
        Arrival(known.ids.get(key), of.webhook, is_new, key in known.erased, bool(of.deliveries))
        for key, of, is_new in arrived
    ]
    for key, of, is_new in arrived:
        if is_new and key in known.erased:
            for hook in bound.arrived_erased:
                hook(transaction, known.ids[key], of.webhook.verdict)
    for hook in bound.arrived:
        hook(transaction, told)


def _row(event: int | str, delivery: NewDelivery, now_ms: int) -> Row:
    return (event, delivery.action, State.PENDING, now_ms, delivery.attempts, now_ms)


def _new(event_id: int, reference: str, delivery: NewDelivery, now_ms: int) -> New:
    of = delivery
    return New(event_id, reference, of.action, of.attempts, now_ms, of.terms)


def _store(bound: Bound, transaction: Transaction, new: Sequence[New]) -> list[int | None]:
    """Have the one feature that has terms store these."""
    store: Callable[[Transaction, Sequence[New]], list[int | None]]
    [store] = bound.store
    return store(transaction, new)


def _prove_commit(transaction: Transaction, items: list[None]) -> list[None]:
    """Do as for webhooks, but for no row: that waits for the same locks and needs the same rights.
    What is written to the disk is what features take back, such as a count; if there are none, a
    row of the record with an id that no other daemon on this database uses. (An event that is taken
    back would use up a number, or have the database look through all that may refer to it.)"""
    bound = hooks.of(transaction)
    for arriving in bound.arriving:
        arriving(transaction)
    for statement in _ADD_NONE:
        transaction.write(statement)
    for prove in bound.prove or (_write_nothing,):
        prove(transaction)
    return items


def _write_nothing(transaction: Transaction) -> None:
    transaction.write(_WRITE, **_NOTHING, id=-1 - transaction.part)
    transaction.write(_TAKE_BACK, id=-1 - transaction.part)


_REFERENCE_OF = Statement(Event.select(Event.reference).where(Event.id == param("id")))
_COUNT_DUPLICATE = Statement(
    Event.update(
        duplicate_count=Event.duplicate_count + 1, last_duplicate_at_ms=param("at_ms")
    ).where(Event.id == param("id"))
)
_ADD_NONE = [
    Statement(table.insert_from(table.select(table.id).where(SQL("1 = 0")), [table.id]))
    for table in (Event, Delivery)
]
_NOTHING = {"schema_number": 0, "schema_digest": "", "record_id": "", "digest_key": b""}
_WRITE = insert(Record, "id", *_NOTHING)
_TAKE_BACK = Statement(Record.delete().where(Record.id == param("id")))
_PROVE_COMMIT = Operation(Step.PROOF, _prove_commit)
