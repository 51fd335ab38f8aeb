"""Storing what Prembly's API answered: the record of each question, and of an answer that settles a
verification an event, once for each, whoever asked."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from premblyd.ask.client import Answer, AnswerKind
from premblyd.engines.engine import Transaction
from premblyd.engines.writer import Step, Writer
from premblyd.model.tables import InquiryResult, Purpose
from premblyd.occurrences import InquiryAnswered
from premblyd.prembly import payload
from premblyd.prembly.answers import Question
from premblyd.prembly.payload import StoredEvent, Verdict, Webhook
from premblyd.privacy.identifiers import safe_id
from premblyd.queue import inbox
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.telemetry import tell
from premblyd.verifications import awaited, questions
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
        references = {event.verdict.reference or ""}
        return self._writer.call(
            lambda transaction: found_others(transaction, known_as(transaction, references), read)
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
    transaction.lock(lock_names(answer.names))  # before others: who has these waits for more
    learn_names(transaction, answer.names, webhook.received_at_ms)
    named = {answer.asked, webhook.verdict.reference or answer.asked, *answer.names}
    references = known_as(transaction, named)
    order_names = inbox.lock_names(webhook, answer.deliveries)
    transaction.lock({*map(awaited.lock_name, references), *order_names})
    if settled := settled_in_record(transaction, references):
        event_id = min(settled.values())
        key = inbox.key_of(transaction, event_id)
        added = Added(event_id, key, False)
    else:
        others = found_others(transaction, references, answer.read)
        deliveries = [each for each in answer.deliveries if answer.is_for(each.action, others)]
        added = inbox.add_event(transaction, webhook, deliveries)
    if inquiry is not None:
        stored_id = added.event_id if added.is_new else None
        questions.add(transaction, replace(inquiry, stored_event_id=stored_id))
    awaited.settle(transaction, dict.fromkeys(references, added.event_id), webhook.received_at_ms)
    return added


def new_inquiry(
    question: Question,
    answer: Answer,
    purpose: Purpose,
    result: InquiryResult | None = None,
    *,
    error: str | None = None,
    event_id: int | None = None,
    delivery_id: int | None = None,
    stored_event_id: int | None = None,
) -> NewInquiry:
    """Return the record of a question. `result` is for an answer that is KNOWN: what it came to."""
    of_kind = None if answer.kind is AnswerKind.KNOWN else InquiryResult(answer.kind)
    return NewInquiry(
        at_ms=answer.at_ms,
        purpose=purpose,
        result=result or of_kind or InquiryResult.UNSETTLED,
        reference=question.reference,
        duration_ms=answer.duration_ms,
        event_id=event_id,
        delivery_id=delivery_id,
        http_status=answer.http_status,
        error=error or answer.error,
        answer_bytes=len(answer.body) if answer.http_status else None,
        answer_sha256=answer.sha256,
        stored_event_id=stored_event_id,
        wait_until_ms=answer.wait_until_ms,
    )


def tell_answered(inquiry: NewInquiry) -> None:
    """Tell the log of a question, when its record is stored."""
    tell(
        InquiryAnswered(
            purpose=str(inquiry.purpose),
            result=str(inquiry.result),
            event_id=inquiry.event_id,
            delivery=inquiry.delivery_id,
            stored_event_id=inquiry.stored_event_id,
            reference=safe_id(inquiry.reference),
            http_status=inquiry.http_status,
            error=inquiry.error,
            answer_bytes=inquiry.answer_bytes,
            duration_ms=inquiry.duration_ms,
        )
    )
