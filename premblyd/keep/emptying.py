"""Emptying what events hold of people, class by class: for what is removed in time, and for what is
erased. Which columns these are, the tables say."""

from collections.abc import Collection, Sequence
from typing import Any

from peewee import Field, fn

from premblyd.engines.engine import Lookup, Transaction, param
from premblyd.model.columns import Kept, emptied
from premblyd.model.keeptables import Lacks
from premblyd.model.states import FINISHED, State
from premblyd.model.table import Table
from premblyd.model.tables import Attempt, Awaited, Delivery, Event, Inquiry, OperatorAction

BODY = (Kept.BODY,)
IDENTITY = (Kept.BODY, Kept.IDENTITY)
# Where rows of other tables say which event, or which delivery of one, they are about.
BY_DELIVERY: Sequence[Field] = (Attempt.delivery, Inquiry.delivery, OperatorAction.delivery_id)
BY_EVENT: Sequence[Field] = (
    *(Inquiry.event, Inquiry.stored_event),
    *(Awaited.event, OperatorAction.event_id),
)


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
    deliveries = deliveries_of(transaction, ids)
    transaction.change_each(_IDENTITIES, ids, lacks=lacks)
    for lookup in (_OF_DELIVERY, _ORDER, *_OF_EVENTS):
        transaction.change_each(lookup, ids)
    for lookup in _OF_DELIVERIES:
        transaction.change_each(lookup, deliveries)


def _emptying(column: Field, *kept: Kept, **more: Any) -> Lookup:
    table: type[Table] = column.model
    return Lookup(table.update({**emptied(table, *kept), **more}), column)


_LACKS = {"lacks": param("lacks")}
_DELIVERIES = Lookup(Delivery.select(Delivery.id), Delivery.event)
_BODIES = _emptying(Event.id, *BODY, **_LACKS)
_OUTPUTS = _emptying(Attempt.delivery, *BODY)
_IDENTITIES = _emptying(Event.id, *IDENTITY, **_LACKS)
# An order key is a digest of the reference: of what stands in no line any more.
_LINE = {"order_key": None, "order_place": None, "holds_order": False}
_FREE = emptied(Delivery, *IDENTITY)
_OF_DELIVERY = Lookup(
    Delivery.update({name: value for name, value in _FREE.items() if name not in _LINE}),
    Delivery.event,
)
_ORDER = Lookup(
    Delivery.update(**_LINE).where(
        # By COALESCE, else SQLite looks through all that are over, ever.
        fn.COALESCE(Delivery.state, "").in_(FINISHED),
        Delivery.order_key.is_null(False),
        ~((Delivery.state == State.DEAD) & Delivery.holds_order),
    ),
    Delivery.event,
)
_OF_DELIVERIES = [_emptying(each, *IDENTITY) for each in BY_DELIVERY]
_OF_EVENTS = [_emptying(each, *IDENTITY) for each in BY_EVENT]
