"""Prembly's answer that settles a verification: committed as an event with its deliveries, once for
each verification, whoever asked; what waited for it ends in the same transaction."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from premblyd.engines.engine import Statement, Transaction, param
from premblyd.engines.writer import Step, Writer
from premblyd.model.tables import Event
from premblyd.prembly import events, payload
from premblyd.prembly.payload import StoredEvent, Verdict, Webhook
from premblyd.queue import inbox
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.verifications import awaited, questions
from premblyd.verifications.erased import which_erased
from premblyd.verifications.names import known_as, learn_names, lock_names
from premblyd.verifications.questions import NewInquiry
from premblyd.verifications.stored import Read, found_others, settled_in_record


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAnswer:
    """An answer that settles a verification, as an event, and the actions that it is for. `asked`:
    the reference by which the record knows the verification; the answer's own may be another.
    `is_for`: whether it is for one of them also when these other events are about it. `read`: as
    what events are read that an earlier premblyd stored."""

    webhook: Webhook
    deliveries: Sequence[NewDelivery]
    asked: str
    is_for: Callable[[str, Sequence[Verdict]], bool] = lambda *_: True
    names: Sequence[str] = ()  # by which Prembly knows the verification
    read: Read = lambda endpoint, verified_by, body: payload.read(body)


class Answers:
    """Keeps answers. Its futures resolve after the commit."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def others(self, event: StoredEvent, read: Read) -> "asyncio.Future[list[Verdict]]":
        """Return what the other events of the same verification say, whatever they call it."""

        def operation(transaction: Transaction) -> list[Verdict]:
            references = known_as(transaction, {event.verdict.reference or ""})
            return found_others(transaction, references, read)

        return self._writer.call(operation)

    def add(self, answer: NewAnswer, inquiry: NewInquiry | None) -> "asyncio.Future[Added]":
        """Store `answer`, as `add_answer` does."""
        return self._writer.call(
            lambda transaction: add_answer(transaction, answer, inquiry), Step.ARRIVALS, alone=True
        )


def add_answer(
    transaction: Transaction, answer: NewAnswer, inquiry: NewInquiry | None = None
) -> Added:
    """Store `answer` with the record of its question, and end what waited for it. The transaction
    must have no lock yet.

    When the record has a settled event of the verification already, under any of its names, that
    one ends the waiting instead, and no event is stored: whatever else came or was asked meanwhile,
    its actions run once."""
    webhook = answer.webhook
    transaction.lock(lock_names(answer.names))  # before others: who has these waits for more
    named = {answer.asked, webhook.verdict.reference or answer.asked, *answer.names}
    was_erased = which_erased(transaction, named)
    if not was_erased:
        learn_names(transaction, answer.names, webhook.received_at_ms)
    references = known_as(transaction, named)
    order_names = inbox.lock_names(webhook, answer.deliveries)
    transaction.lock({*map(awaited.lock_name, references), *order_names})
    if settled := settled_in_record(transaction, references):
        event_id = min(settled.values())
        added = Added(event_id, inbox.key_of(transaction, event_id), False)
    else:
        others = found_others(transaction, references, answer.read)
        deliveries = [each for each in answer.deliveries if answer.is_for(each.action, others)]
        erasure_id = min(was_erased.values(), default=None)
        added = inbox.add_event(transaction, webhook, deliveries, erasure_id)
    if inquiry is not None:
        added = replace(added, has_answer=added.is_new or _holds(transaction, added, inquiry))
        stored_id = added.event_id if added.has_answer else None
        questions.add(transaction, replace(inquiry, stored_event_id=stored_id))
    awaited.settle(transaction, dict.fromkeys(references, added.event_id), webhook.received_at_ms)
    return added


def _holds(transaction: Transaction, added: Added, inquiry: NewInquiry) -> bool:
    """Return whether an event that was there already was made of this question's answer, by
    somebody who got it too and came first."""
    asked = {"at_ms": inquiry.at_ms, "sha256": inquiry.answer_sha256}
    return transaction.row(_MADE_OF, id=added.event_id, **asked) is not None


_MADE_OF = Statement(
    Event.select(Event.id).where(
        Event.id == param("id"),
        Event.verified_by == events.STORED_BY,
        Event.body_sha256 == param("sha256"),
        Event.received_at_ms >= param("at_ms"),
    )
)
