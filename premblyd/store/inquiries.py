"""The record of questions to Prembly: each has a row, whatever came of it."""

import asyncio
from dataclasses import asdict, dataclass, fields

from premblyd.store.engine import Transaction
from premblyd.store.models import Inquiry, InquiryResult, Purpose
from premblyd.store.statements import insert
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


def add(transaction: Transaction, inquiry: NewInquiry) -> None:
    """Keep a question in a transaction with what else came of it."""
    transaction.insert(INSERT_INQUIRY, **asdict(inquiry))


INSERT_INQUIRY = insert(Inquiry, *(field.name for field in fields(NewInquiry)))
