"""Storing what Prembly's API answered, as an event: once for each verification, whoever asked."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from premblyd.asked import awaited, naming, questions
from premblyd.asked.naming import Spelt, look_up
from premblyd.asked.questions import NewInquiry
from premblyd.engines.engine import Row, Transaction
from premblyd.engines.writer import Step, Writer
from premblyd.model.statements import Lookup
from premblyd.model.tables import Event
from premblyd.prembly import events
from premblyd.prembly.agreement import MAX_OTHERS
from premblyd.prembly.answers import FACTS
from premblyd.prembly.payload import Outcome, Verdict
from premblyd.prembly.webhook import StoredEvent, Webhook
from premblyd.queue import inbox
from premblyd.queue.inbox import Added, NewDelivery


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAnswer:
    """An answer that settles a verification, as an event, and the actions that it is for. `asked`:
    the reference by which the record knows the verification; the answer's own may be another.
    `is_for`: whether it is for one of them also when these other events are about it."""

    webhook: Webhook
    deliveries: Sequence[NewDelivery]
    asked: str
    is_for: Callable[[str, Sequence[Verdict]], bool] = lambda *_: True
    names: Sequence[str] = ()  # by which Prembly knows the verification


class Answers:
    """Keeps answers. Its futures resolve after the commit."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def others(self, event: StoredEvent) -> "asyncio.Future[list[Verdict]]":
        """Return what the other events of the same verification say, whatever they call it."""
        references = {event.verdict.reference or ""}
        return self._writer.call(
            lambda transaction: found_others(transaction, naming.known_as(transaction, references))
        )

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
    transaction.lock(naming.lock_names(answer.names))  # before others: who has these waits for more
    naming.learn(transaction, answer.names, webhook.received_at_ms)
    named = {answer.asked, webhook.verdict.reference or answer.asked, *answer.names}
    references = naming.known_as(transaction, named)
    order_names = inbox.lock_names(webhook, answer.deliveries)
    transaction.lock({*map(awaited.lock_name, references), *order_names})
    if settled := awaited.settled_in_record(transaction, references):
        event_id = min(settled.values())
        key = inbox.key_of(transaction, event_id)
        added = Added(event_id, key, False)
    else:
        others = found_others(transaction, references)
        deliveries = [each for each in answer.deliveries if answer.is_for(each.action, others)]
        added = inbox.add_event(transaction, webhook, deliveries)
    if inquiry is not None:
        stored_id = added.event_id if added.is_new else None
        questions.add(transaction, replace(inquiry, stored_event_id=stored_id))
    awaited.settle(transaction, dict.fromkeys(references, added.event_id), webhook.received_at_ms)
    return added


def found_others(transaction: Transaction, references: Collection[str]) -> list[Verdict]:
    """Return what the webhooks of these references say, each thing once."""
    return [_verdict(row) for row in look_up(transaction, _OTHERS, references)]


def _verdict(row: Row) -> Verdict:
    """Return what a row says, as far as nobody has changed it by hand."""
    values = dict(zip(_SAID, row, strict=True))
    values["outcome"] = next((word for word in Outcome if word == values["outcome"]), _NO_OUTCOME)
    if values["face_match"] is not None:
        values["face_match"] = bool(values["face_match"])
    values["doubt"] = values["doubt"] or ""
    return Verdict(**values)


_NO_OUTCOME = Outcome.UNKNOWN
_SAID = (*FACTS, "doubt")
_OTHER_EVENTS = (
    Event.select(*(getattr(Event, name) for name in _SAID))
    .where(Event.verified_by != events.STORED_BY)
    .distinct()
    .limit(MAX_OTHERS + 1)
)
_OTHERS = Spelt(
    Lookup(_OTHER_EVENTS, Event.reference), Lookup(_OTHER_EVENTS.clone(), Event.reference_key)
)
