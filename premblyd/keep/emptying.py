"""Emptying what events hold of people, class by class: for what is removed in time, and for what is
erased. Which columns these are, the tables say."""

from collections.abc import Collection
from typing import Any

from peewee import Field, fn

from premblyd.engines.engine import Lookup, Transaction, param
from premblyd.model import tables
from premblyd.model.columns import Kept, emptied
from premblyd.model.keeping import Lacks
from premblyd.model.states import FINISHED, State
from premblyd.model.table import Table
from premblyd.seal import eventkeys

BODY = (Kept.BODY,)
IDENTITY = (Kept.BODY, Kept.IDENTITY)


def deliveries_of(transaction: Transaction, event_ids: Collection[int]) -> list[int]:
    """Return the deliveries of these events."""
    return [row[0] for row in transaction.look_up(_DELIVERIES, sorted(event_ids))]


def empty_bodies(transaction: Transaction, event_ids: Collection[int]) -> None:
    """Empty the bodies and headers of these events, and what their hooks printed."""
    ids = sorted(event_ids)
    transaction.change_each(_BODIES, ids, lacks=Lacks.BODY)
    transaction.change_each(_OUTPUTS, deliveries_of(transaction, ids))


def empty_identities(
    transaction: Transaction, event_ids: Collection[int], lacks: Lacks = Lacks.IDENTITY
) -> None:
    """Empty all that names a person in these events and in what became of them. The names of their
    verifications are not for this to forget: other events have them too."""
    ids = sorted(event_ids)
    eventkeys.destroy(transaction, ids)
    deliveries = deliveries_of(transaction, ids)
    transaction.change_each(_IDENTITIES, ids, lacks=lacks)
    for lookup in (_OF_DELIVERY, _ORDER):
        transaction.change_each(lookup, ids)
    for lookup in (_OF_ATTEMPT, _OF_INQUIRY_BEFORE, _OF_ACTION_ON_DELIVERY):
        transaction.change_each(lookup, deliveries)
    for lookup in (_OF_INQUIRY, _OF_INQUIRY_STORED, _OF_AWAITED, _OF_ACTION):
        transaction.change_each(lookup, ids)


def _emptying(table: type[Table], column: Field, *kept: Kept, **more: Any) -> Lookup:
    return Lookup(table.update({**emptied(table, *kept), **more}), column)


_LACKS = {"lacks": param("lacks")}
_DELIVERIES = Lookup(tables.Delivery.select(tables.Delivery.id), tables.Delivery.event)
_BODIES = _emptying(tables.Event, tables.Event.id, *BODY, **_LACKS)
_OUTPUTS = _emptying(tables.Attempt, tables.Attempt.delivery, *BODY)
_IDENTITIES = _emptying(tables.Event, tables.Event.id, *IDENTITY, **_LACKS)
# An order key is a digest of the reference: of what stands in no line any more.
_LINE = {"order_key": None, "order_place": None, "holds_order": False}
_FREE = emptied(tables.Delivery, *IDENTITY)
_OF_DELIVERY = Lookup(
    tables.Delivery.update({name: value for name, value in _FREE.items() if name not in _LINE}),
    tables.Delivery.event,
)
_ORDER = Lookup(
    tables.Delivery.update(**_LINE).where(
        # By COALESCE, else SQLite looks through all that are over, ever.
        fn.COALESCE(tables.Delivery.state, "").in_(FINISHED),
        tables.Delivery.order_key.is_null(False),
        ~((tables.Delivery.state == State.DEAD) & tables.Delivery.holds_order),
    ),
    tables.Delivery.event,
)
_OF_ATTEMPT = _emptying(tables.Attempt, tables.Attempt.delivery, *IDENTITY)
_OF_INQUIRY = _emptying(tables.Inquiry, tables.Inquiry.event, *IDENTITY)
_OF_INQUIRY_BEFORE = _emptying(tables.Inquiry, tables.Inquiry.delivery, *IDENTITY)
_OF_INQUIRY_STORED = _emptying(tables.Inquiry, tables.Inquiry.stored_event, *IDENTITY)
_OF_AWAITED = _emptying(tables.Awaited, tables.Awaited.event, *IDENTITY)
_OF_ACTION = _emptying(tables.OperatorAction, tables.OperatorAction.event_id, *IDENTITY)
_OF_ACTION_ON_DELIVERY = _emptying(
    tables.OperatorAction, tables.OperatorAction.delivery_id, *IDENTITY
)
