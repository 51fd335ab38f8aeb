"""What goes of events when a period is over, class by class, with all that they left in other
tables: within the transaction of whoever has made sure that nothing of them waits, runs or is held.

A few statements for all of them, whatever their number: webhooks wait meanwhile.
"""

from collections.abc import Collection, Sequence

from peewee import Field, fn

from premblyd.engines.engine import BulkInsert, Lookup, Row, Statement, Transaction, param, params
from premblyd.keep import emptying
from premblyd.keep.emptying import deliveries_of
from premblyd.model import tables
from premblyd.model.keeptables import GoneEvent, GoneOnce, KeptFrom, PutOff, Removed
from premblyd.model.states import State
from premblyd.prembly.payload import plain_id
from premblyd.verifications.erased import SENDERS, harmless
from premblyd.verifications.spellings import Spelt, look_up


def remove(
    transaction: Transaction,
    removed: Removed,
    event_ids: Sequence[int],
) -> None:
    """Remove the class `removed` of these events: body, identity or record."""
    if removed is Removed.BODY:
        emptying.empty_bodies(transaction, event_ids)
    elif removed is Removed.IDENTITY:
        _remove_identities(transaction, event_ids)
    elif removed is Removed.RECORD:
        _remove_records(transaction, event_ids)
    else:
        raise ValueError(f"{removed} is not of whole events")


def forget_verifications(transaction: Transaction, verifications: Collection[str]) -> None:
    """Take out all names of those of these verifications of which no event has a name any more."""
    names: dict[str, set[str]] = {each: {each} for each in verifications}
    for name, verification in transaction.look_up(_OTHER_NAMES, sorted(names)):
        names[verification].add(name)
    living = _living(transaction, set().union(*names.values()))
    transaction.change_each(
        _FORGET, sorted(each for each, own in names.items() if not own & living)
    )


def _remove_identities(transaction: Transaction, event_ids: Sequence[int]) -> None:
    names = _names_of(transaction, event_ids)
    verifications = _verifications_of(transaction, names)
    written = transaction.look_up(_WRITTEN_BY_SENDER, event_ids)
    # First, as it takes the body out: else a photo's megabytes would be written anew twice.
    emptying.empty_identities(transaction, event_ids)
    _hide_words(transaction, written)
    # A name that a younger event has too leads to others by which that is held, or has run once.
    transaction.change_each(_FORGET_NAME, sorted(names - _living(transaction, names)))
    forget_verifications(transaction, verifications)


def _hide_words(transaction: Transaction, written: Sequence[Row]) -> None:
    """Take out what a sender has put where a code or a state is expected, and has not its shape:
    it may be anything."""
    for event_id, *values in written:
        found = dict(zip(SENDERS, values, strict=True))
        if (left := harmless(found)) != found:
            transaction.change(_HIDE, id=event_id, **left)


def _remove_records(transaction: Transaction, event_ids: Sequence[int]) -> None:
    verifications = _verifications_of(transaction, _names_of(transaction, event_ids))
    deliveries = deliveries_of(transaction, event_ids)
    _keep_keys(transaction, event_ids)
    for lookup in _OF_DELIVERIES:
        transaction.change_each(lookup, deliveries)
    for lookup in _OF_EVENTS:
        transaction.change_each(lookup, event_ids)
    forget_verifications(transaction, verifications)


def _keep_keys(transaction: Transaction, event_ids: Sequence[int]) -> None:
    """Keep by what the same webhook is known, and what hooks have succeeded for: it must not run
    again."""
    events = transaction.look_up(_KEYS, event_ids)
    transaction.change_each(_NOT_TWICE, [key for key, _ in events])
    transaction.insert_many(_KEEP_EVENTS, events)
    once: dict[tuple[str, str], int] = {}
    for delivery_id, action, *keys in transaction.look_up(_SUCCEEDED, event_ids):
        for key in keys:
            if isinstance(key, str) and key:
                once.setdefault((action, key), delivery_id)
    for action, key in transaction.look_up(_GONE_ONCE, sorted({key for _, key in once})):
        once.pop((action, key), None)
    rows = [(action, key, delivery_id) for (action, key), delivery_id in once.items()]
    transaction.insert_many(_KEEP_ONCE, rows)


def _living(transaction: Transaction, names: Collection[str]) -> set[str]:
    """Return which of these names any event has."""
    found = look_up(transaction, _EVENTS_OF, names) if names else []
    return {plain_id(reference) for (reference,) in found}


def _names_of(transaction: Transaction, event_ids: Sequence[int]) -> set[str]:
    found = transaction.look_up(_REFERENCES, event_ids)
    return {plain_id(each) for (each,) in found if isinstance(each, str) and each}


def _verifications_of(transaction: Transaction, names: Collection[str]) -> set[str]:
    """Return the verifications of these names that have several."""
    return {each for (each,) in transaction.look_up(_VERIFICATIONS, sorted(names))}


def _deleting(column: Field) -> Lookup:
    return Lookup(column.model.delete(), column)


_HAS_ID = tables.Event.id == param("id")
_WRITTEN_BY_SENDER = Lookup(
    tables.Event.select(tables.Event.id, *SENDERS.values()), tables.Event.id
)
_HIDE = Statement(tables.Event.update(params(*SENDERS)).where(_HAS_ID))
_REFERENCES = Lookup(tables.Event.select(tables.Event.reference), tables.Event.id)
_VERIFICATIONS = Lookup(
    tables.VerificationName.select(tables.VerificationName.verification),
    tables.VerificationName.name,
)
_OTHER_NAMES = Lookup(
    tables.VerificationName.select(
        tables.VerificationName.name, tables.VerificationName.verification
    ),
    tables.VerificationName.verification,
)
_EVENTS_OF = Spelt.of(tables.Event.select(tables.Event.reference).distinct(), tables.Event)
_FORGET_NAME = _deleting(tables.VerificationName.name)
_FORGET = _deleting(tables.VerificationName.verification)
_KEYS = Lookup(tables.Event.select(tables.Event.key, tables.Event.id), tables.Event.id)
_NOT_TWICE = _deleting(GoneEvent.key)
_KEEP_EVENTS = BulkInsert(GoneEvent, "key", "event_id")
_SUCCEEDED = Lookup(
    tables.Delivery.select(
        tables.Delivery.id,
        tables.Delivery.action,
        tables.Delivery.once_key,
        tables.Delivery.confirmed_key,
    ).where(fn.COALESCE(tables.Delivery.state, "") == State.SUCCEEDED),
    tables.Delivery.event,
)
_GONE_ONCE = Lookup(GoneOnce.select(GoneOnce.action, GoneOnce.once_key), GoneOnce.once_key)
_KEEP_ONCE = BulkInsert(GoneOnce, "action", "once_key", "delivery_id")
# Whoever refers to a row goes before it, or refers to it no more.
_OF_DELIVERIES = (
    *map(_deleting, emptying.BY_DELIVERY),
    Lookup(tables.Delivery.update(ran_instead=None), tables.Delivery.ran_instead),
)
_OF_EVENTS = (
    _deleting(tables.Delivery.event),
    _deleting(tables.Inquiry.event),
    Lookup(
        tables.Inquiry.delete().where(tables.Inquiry.event.is_null()), tables.Inquiry.stored_event
    ),
    Lookup(tables.Inquiry.update(stored_event=None), tables.Inquiry.stored_event),
    _deleting(tables.Awaited.event),
    Lookup(tables.Awaited.update(settled_by=None), tables.Awaited.settled_by),
    _deleting(tables.OperatorAction.event_id),
    _deleting(PutOff.event_id),
    _deleting(KeptFrom.event_id),
    _deleting(tables.Event.id),
)
