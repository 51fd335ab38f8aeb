"""The record of questions to Prembly, a row for each, and of what its answers confirmed."""

import asyncio
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from peewee import SQL, Case, Node, Query, fn

from premblyd.features.asking.tables import IS_CONFIRMED, Awaited, Confirmation, Inquiry
from premblyd.prembly import payload
from premblyd.prembly.payload import FACTS, Outcome
from premblyd.queue.digests import Digests
from premblyd.queue.hooks import Resumed, withheld
from premblyd.queue.jobs import Job
from premblyd.store.columns import emptied_if
from premblyd.store.engine import Lookup, Statement, Transaction, param, params, update
from premblyd.store.states import AwaitedState, InquiryResult, Purpose
from premblyd.store.tables import Delivery, Event
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
    answer_sha256: bytes | None = None
    stored_event_id: int | None = None
    wait_until_ms: int | None = None  # nothing is asked before, because of this answer


class Inquiries:
    """Keeps questions. Its futures resolve after the commit."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def record(self, inquiry: NewInquiry, *, is_shared: bool = False) -> "asyncio.Future[int]":
        """Keep a question. Return how many of its delivery are kept whose answer is in DOUBTS.

        `is_shared`: another delivery asked it too, which keeps it, and its answer is in DOUBTS: no
        event that Prembly does not confirm may pass for one that nobody doubts. Each delivery has
        it, but of what contradicts an event there is one: of the delivery that asked, though it may
        read the answer after the others."""

        def operation(transaction: Transaction) -> int:
            kept = transaction.row(_KEPT, **{name: getattr(inquiry, name) for name in _PLACE})
            if kept is None:
                add(transaction, inquiry)
            elif not is_shared:
                transaction.write(_OWN, id=kept[0], delivery_id=inquiry.delivery_id)
            return transaction.number(_DOUBTS_OF, delivery_id=inquiry.delivery_id)

        return self._writer.call(operation, Step.EVIDENCE)


def add(transaction: Transaction, inquiry: NewInquiry) -> None:
    """Keep a question in a transaction with what else came of it. The verification of an event that
    Prembly does not confirm is awaited: whoever forges it must not hide the true result."""
    values = asdict(inquiry)
    sha256 = values.pop("answer_sha256")
    values["answer_digest"] = sha256 and Digests.of(transaction).of_body(sha256)
    transaction.write(_insert(), **values)
    if inquiry.purpose is Purpose.CONFIRM and inquiry.result in DOUBTS:
        about: dict[str, Any] = {"event_id": inquiry.event_id, "last_error": NOT_CONFIRMED}
        about |= {"at_ms": inquiry.at_ms, "due_at_ms": inquiry.at_ms + AGAIN_MS}
        transaction.write(_AWAIT_AGAIN, **about)
        transaction.write(_AWAIT, **about)


@functools.cache
def _insert() -> Statement:
    of_erased = withheld(param("event_id"), param("stored_event_id"))
    return Statement(Inquiry.insert(emptied_if(of_erased, Inquiry, params(*_STORED))))


AGAIN_MS = 60_000
NOT_CONFIRMED = "Prembly does not confirm the event that settled it"
# What Prembly says to `confirm` of an event that may be forged.
DOUBTS = (InquiryResult.CONTRADICTED, InquiryResult.UNSETTLED, InquiryResult.NOT_FOUND)


def _of_event(value: Node) -> Query:
    return Event.select(value).where(Event.id == param("event_id"))


_AWAIT_AGAIN = Statement(
    Awaited.update(
        state=AwaitedState.WAITING,
        # The questions count from it: later than now it is where the clock was set back since.
        created_at_ms=Case(
            None, [(Awaited.created_at_ms > param("at_ms"), param("at_ms"))], Awaited.created_at_ms
        ),
        due_at_ms=param("due_at_ms"),
        finished_at_ms=None,
        settled_by=None,
        last_error=param("last_error"),
    ).where(
        (Awaited.reference == _of_event(Event.reference))
        | (Awaited.reference == _of_event(Event.reference_key))
        | (Awaited.reference_key == _of_event(fn.COALESCE(Event.reference_key, Event.reference))),
        Awaited.settled_by == param("event_id"),
    )
)
_AWAIT = Statement(
    Awaited.insert_from(
        Event.select(
            *(Event.id, Event.endpoint, Event.reference, Event.reference_key),
            *(param("at_ms"), param("due_at_ms"), SQL("'waiting'"), param("last_error")),
        ).where(
            Event.id == param("event_id"),
            Event.outcome.in_(payload.FINAL_OUTCOMES),
            Event.reference.is_null(False),
            ~fn.EXISTS(
                Awaited.select(Awaited.id).where(
                    (Awaited.reference == Event.reference)
                    | (Awaited.reference == Event.reference_key)
                    | (Awaited.reference_key == fn.COALESCE(Event.reference_key, Event.reference)),
                    Awaited.due_at_ms.is_null(False) | (Awaited.event == Event.id),
                )
            ),
        ),
        [
            *(Awaited.event, Awaited.endpoint, Awaited.reference, Awaited.reference_key),
            *(Awaited.created_at_ms, Awaited.due_at_ms, Awaited.state, Awaited.last_error),
        ],
    )
)
_PLACE = ("event_id", "at_ms", "delivery_id", "result")
_KEPT = Statement(
    Inquiry.select(Inquiry.id).where(
        Inquiry.event == param("event_id"),
        Inquiry.at_ms == param("at_ms"),
        Inquiry.result == param("result"),
        (Inquiry.delivery == param("delivery_id")) | (Inquiry.result == InquiryResult.CONTRADICTED),
    )
)
_OWN = update(Inquiry, "delivery_id", where=Inquiry.id == param("id"))
_DOUBTS_OF = Statement(
    Inquiry.select(fn.COUNT(Inquiry.id)).where(
        Inquiry.delivery == param("delivery_id"), Inquiry.result.in_(DOUBTS)
    )
)
_STORED = [*({field.name for field in fields(NewInquiry)} - {"answer_sha256"}), "answer_digest"]


CONFIRMED = "confirmed"  # so hooks are told of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """What Prembly's answer confirmed of an event, kept for the delivery, so that each attempt of
    its hook gets the same: the facts that an answer with this SHA-256 states, by their names in
    Verdict; `reference` among them when it names the event's."""

    facts: Mapping[str, Any]
    sha256: bytes | None = None

    @classmethod
    def read(cls, text: str | None) -> Self:
        """Read what is kept of the facts. Raise ValueError or TypeError when it can't be read, or
        there is nothing."""
        facts = dict(json.loads(text or ""))
        if "outcome" in facts:
            facts["outcome"] = Outcome(facts["outcome"])
        return cls(facts=facts)

    def job(self, job: Job) -> Job:
        """Return the job with which the hook runs: its event's facts are the confirmed ones."""
        changes = {name: value for name, value in self.facts.items() if name in FACTS}
        event = replace(job.event, verdict=replace(job.event.verdict, **changes))
        return replace(job, event=event, vouched={CONFIRMED: tuple(self.facts)})


def resume(transaction: Transaction, delivery_ids: Sequence[int]) -> Resumed:
    """Spend an attempt of those of these deliveries that are confirmed: their hooks run. Return
    what has their jobs say what Prembly confirmed then."""
    found = transaction.ask_for(KEPT_FACTS, delivery_ids)
    for delivery_id in delivery_ids:
        transaction.write(_SPEND, id=delivery_id)

    def resumed(jobs: Iterable[Job]) -> Iterator[Job]:
        texts: dict[int, str] = dict(found())
        for job in jobs:
            try:
                known = texts.get(job.delivery_id)
                yield job if known is None else Confirmed.read(known).job(job)
            except (ValueError, TypeError):
                yield replace(job, vouched={CONFIRMED: None})

    return resumed


KEPT_FACTS = Lookup(
    Confirmation.select(Confirmation.delivery, Confirmation.facts), Confirmation.delivery
)
_SPEND = Statement(
    Delivery.update(attempts_left=Delivery.attempts_left - 1).where(
        Delivery.id == param("id"), IS_CONFIRMED
    )
)
FORGET = Lookup(Confirmation.delete(), Confirmation.delivery)
