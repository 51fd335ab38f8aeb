"""Storing what Prembly's API answered, as an event: once for each verification, whoever asked."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from premblyd.prembly.webhook import Webhook
from premblyd.store import awaited, inbox, inquiries
from premblyd.store.engine import Transaction
from premblyd.store.inbox import Added, NewDelivery
from premblyd.store.inquiries import NewInquiry
from premblyd.store.writer import Step, Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAnswer:
    """An answer that settles a verification, as an event, and the actions that it is for. `asked`:
    the reference by which the record knows the verification; the answer's own may be another."""

    webhook: Webhook
    deliveries: Sequence[NewDelivery]
    asked: str


class Answers:
    """Keeps answers. Its futures resolve after the commit."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def add(self, answer: NewAnswer, inquiry: NewInquiry | None) -> "asyncio.Future[Added]":
        """Store `answer`, as `add_answer` does."""
        return self._writer.call(
            lambda transaction: _add(transaction, answer, inquiry), Step.ARRIVALS, [*_names(answer)]
        )


def add_answer(
    transaction: Transaction, answer: NewAnswer, inquiry: NewInquiry | None = None
) -> Added:
    """Store `answer` with the record of its question, and end what waited for it.

    When the record has a settled event of the verification already, that one ends the waiting
    instead, and no event is stored: whatever else came or was asked meanwhile, its actions run
    once."""
    transaction.lock(_names(answer))
    return _add(transaction, answer, inquiry)


def _names(answer: NewAnswer) -> set[str]:
    awaited_names = map(awaited.lock_name, _references(answer))
    return {*awaited_names, *inbox.lock_names(answer.webhook, answer.deliveries)}


def _references(answer: NewAnswer) -> set[str]:
    return {answer.asked, answer.webhook.verdict.reference or answer.asked}


def _add(transaction: Transaction, answer: NewAnswer, inquiry: NewInquiry | None) -> Added:
    webhook = answer.webhook
    references = _references(answer)
    if settled := awaited.settled_in_record(transaction, references):
        event_id = min(settled.values())
        key = inbox.key_of(transaction, event_id)
        added = Added(event_id, key, False)
    else:
        added = inbox.add_event(transaction, webhook, answer.deliveries)
    if inquiry is not None:
        stored_id = added.event_id if added.is_new else None
        inquiries.add(transaction, replace(inquiry, stored_event_id=stored_id))
    awaited.settle(transaction, dict.fromkeys(references, added.event_id), webhook.received_at_ms)
    return added
