"""The record of questions to Prembly: each has a row, whatever came of it."""

import asyncio
from dataclasses import asdict, dataclass, fields

from premblyd.store.engine import Transaction
from premblyd.store.models import Awaited, AwaitedState, Event, Inquiry, InquiryResult, Purpose
from premblyd.store.statements import Statement, insert, param
from premblyd.store.writer import Step, Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInquiry:
    """A question that was asked, and what came of it. `reference` None: a session was asked for,
    whose id is a secret. `error` is ours: it quotes neither the answer nor the event."""

    at_ms: int
    purpose: Purpose
    result: InquiryResult
    reference: str | None
    duration_ms: int
    event_id: int | None = None
    delivery_id: int | None = None
    http_status: int | None = None
    error: str | None = None
    answer_bytes: int | None = None
    answer_sha256: str | None = None
    stored_event_id: int | None = None


class Inquiries:
    """Keeps questions. Its futures resolve after the commit."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def record(self, inquiry: NewInquiry) -> "asyncio.Future[None]":
        """Keep a question."""
        return self._writer.call(lambda transaction: add(transaction, inquiry), Step.EVIDENCE)

    def record_doubt(self, inquiry: NewInquiry) -> "asyncio.Future[None]":
        """Keep a question that another event asked too, and whose answer is in DOUBTS, once for
        its event: no event that Prembly does not confirm may pass for one that nobody doubts."""

        def operation(transaction: Transaction) -> None:
            place = {"event_id": inquiry.event_id, "at_ms": inquiry.at_ms}
            if transaction.row(_OF_EVENT, **place) is None:
                add(transaction, inquiry)

        return self._writer.call(operation, Step.EVIDENCE)


def add(transaction: Transaction, inquiry: NewInquiry) -> None:
    """Keep a question in a transaction with what else came of it. What an event had settled that
    Prembly does not confirm is awaited again: whoever forges it must not hide the true result."""
    transaction.insert(INSERT_INQUIRY, **asdict(inquiry))
    if inquiry.purpose is Purpose.CONFIRM and inquiry.result in DOUBTS:
        transaction.change(
            _AWAIT_AGAIN,
            event_id=inquiry.event_id,
            due_at_ms=inquiry.at_ms + AGAIN_MS,
            last_error=NOT_CONFIRMED,
        )


AGAIN_MS = 60_000
NOT_CONFIRMED = "Prembly does not confirm the event that settled it"
# What Prembly says to `confirm` of an event that may be forged.
DOUBTS = (InquiryResult.CONTRADICTED, InquiryResult.UNSETTLED, InquiryResult.NOT_FOUND)
_AWAIT_AGAIN = Statement(
    Awaited.update(
        state=AwaitedState.WAITING,
        due_at_ms=param("due_at_ms"),
        finished_at_ms=None,
        settled_by=None,
        last_error=param("last_error"),
    ).where(
        Awaited.reference == Event.select(Event.reference).where(Event.id == param("event_id")),
        Awaited.settled_by == param("event_id"),
    )
)
_OF_EVENT = Statement(
    Inquiry.select(Inquiry.id).where(
        Inquiry.event == param("event_id"), Inquiry.at_ms == param("at_ms")
    )
)
INSERT_INQUIRY = insert(Inquiry, *(field.name for field in fields(NewInquiry)))
