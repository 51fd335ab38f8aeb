"""Storing what Prembly's API answered, as an event: once for each verification, whoever asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from premblyd.prembly.webhook import Webhook
from premblyd.store import awaited, inbox
from premblyd.store.engine import Transaction
from premblyd.store.inbox import Added, NewDelivery


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAnswer:
    """An answer that settles a verification, as an event, and the actions that it is for. `asked`:
    the reference by which the record knows the verification; the answer's own may be another."""

    webhook: Webhook
    deliveries: Sequence[NewDelivery]
    asked: str


def add_answer(transaction: Transaction, answer: NewAnswer) -> Added:
    """Store `answer`, and end what waited for it. When the record has a settled event of the
    verification already, that one ends it instead, and nothing is stored: whatever else was asked
    or came meanwhile, its actions run once."""
    webhook = answer.webhook
    names = {answer.asked, webhook.verdict.reference or answer.asked}
    if settled := awaited.settled_in_record(transaction, names):
        event_id = min(settled.values())
        key = inbox.key_of(transaction, event_id)
        added = Added(event_id, key, False)
    else:
        added = inbox.add_event(transaction, webhook, answer.deliveries)
    awaited.settle(transaction, dict.fromkeys(names, added.event_id), webhook.received_at_ms)
    return added
