"""Prembly's answer that settles a verification: committed as an event with its deliveries, once for
each verification; deliveries that waited for it end in the same transaction."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from peewee import Case, fn

from premblyd.features.asking import awaited, questions
from premblyd.features.asking.questions import NewInquiry
from premblyd.features.asking.stored import (
    IS_BELIEVED,
    STANDING,
    found_others,
    of_doubted,
    settled_in_record,
)
from premblyd.features.asking.tables import IS_CONFIRMED, Inquiry
from premblyd.prembly import events
from premblyd.prembly.payload import BEFORE_RESULT, Standing, StoredEvent, Verdict, Webhook
from premblyd.queue import hooks, inbox
from premblyd.queue.digests import Digests
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.queue.names import Spelt, known_as, learn_names, lock_names, look_up
from premblyd.store.engine import Statement, Transaction, param
from premblyd.store.states import AttemptOutcome, Purpose, State
from premblyd.store.tables import Attempt, Delivery, Event
from premblyd.store.writer import Step, Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAnswer:
    """An answer that settles a verification, as an event, and the actions that it is for. `asked`:
    the reference by which the record knows the verification; the answer's own may be another.
    `is_for`: whether it is for one of them also when these other events are about it. `confirming`:
    those of them whose hooks begin only when Prembly has confirmed the event."""

    webhook: Webhook
    deliveries: Sequence[NewDelivery]
    asked: str
    is_for: Callable[[str, Sequence[Verdict]], bool] = lambda *_: True
    names: Sequence[str] = ()  # by which Prembly knows the verification
    confirming: Collection[str] = ()


class Answers:
    """Keeps answers. Its futures resolve after the commit."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def others(self, event: StoredEvent) -> "asyncio.Future[list[Verdict]]":
        """Return what the other events of the same verification say, whatever they call it."""

        def operation(transaction: Transaction) -> list[Verdict]:
            references = known_as(transaction, {event.verdict.reference or ""})
            return found_others(transaction, references)

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

    When the record has an event already that settles the verification, under any of its names, that
    one ends the waiting instead, and no event is stored: whatever else came or was asked meanwhile,
    its actions run once. An action that an event has had which was no PENDING, 02 or 03 does not
    run again either: its delivery is skipped, and says which one ran instead.

    What says it twice and differently is for a person to look at: an answer that is silent on what
    does not fit is no event beside it, and is kept as a question about it."""
    webhook = answer.webhook
    transaction.lock(lock_names(answer.names))  # before others: who has these waits for more
    named = {answer.asked, webhook.verdict.reference or answer.asked, *answer.names}
    was_erased = hooks.forgotten(transaction, named)
    # Not all that it names: of what another verification has, its events say nothing of this one.
    own = {answer.asked, webhook.verdict.reference or answer.asked}
    if was_erased or not answer.names:
        known: Collection[str] = known_as(transaction, named)
    else:
        known = learn_names(transaction, answer.names, webhook.received_at_ms)
    references = own.union(known)
    order_names = inbox.lock_names(transaction, webhook, answer.deliveries)
    transaction.lock({*map(awaited.lock_name, references), *order_names})
    settled = settled_in_record(transaction, references, webhook.verdict)
    doubted = [] if settled else [id_ for (id_,) in look_up(transaction, _DOUBTED, references)]
    if known_ids := [*settled.values(), *doubted]:
        event_id = min(known_ids)
        added = Added(event_id, inbox.key_of(transaction, event_id), False)
        if doubted and inquiry is not None:
            result, words = of_doubted(webhook.verdict)
            inquiry = replace(inquiry, event_id=event_id, result=result, error=words)
    else:
        others = found_others(transaction, references)
        deliveries = [each for each in answer.deliveries if answer.is_for(each.action, others)]
        had: dict[str, int] = {
            action: delivery_id
            for action, delivery_id, is_sure in (
                look_up(transaction, _HAD, references) if deliveries else ()
            )
            if is_sure or action not in answer.confirming
        }
        to_run = [each for each in deliveries if each.action not in had]
        skipped = {each: had[each.action] for each in deliveries if each.action in had}
        added = inbox.add_event(transaction, webhook, to_run, skipped, named)
    if inquiry is not None:
        added = replace(added, has_answer=added.is_new or _holds(transaction, added, inquiry))
        stored_id = added.event_id if added.has_answer else None
        questions.add(transaction, replace(inquiry, stored_event_id=stored_id))
    awaited.settle(transaction, dict.fromkeys(references, added.event_id), webhook.received_at_ms)
    return added


def _holds(transaction: Transaction, added: Added, inquiry: NewInquiry) -> bool:
    """Return whether an event that was there already was made of this question's answer, by
    somebody who got it too and came first."""
    if inquiry.answer_sha256 is None:
        return False
    digest = Digests.of(transaction).of_body(inquiry.answer_sha256)
    asked = {"at_ms": inquiry.at_ms, "body_digest": digest}
    return transaction.row(_MADE_OF, id=added.event_id, **asked) is not None


# Whatever becomes of its replay, which empties what Prembly confirmed.
_HAS_RUN = fn.EXISTS(
    Attempt.select(Attempt.id).where(
        Attempt.delivery == Delivery.id,
        Attempt.outcome.in_([AttemptOutcome.SUCCEEDED, AttemptOutcome.TIMED_OUT])
        | Attempt.exit_code.is_null(False)
        | Attempt.http_status.is_null(False),
    )
)
# A hook that has begun, or may still begin.
_HAS_BEGUN = (Delivery.state == State.SUCCEEDED) | (
    (Delivery.state.in_([State.PENDING, State.RUNNING]) & IS_BELIEVED)
    | ((Delivery.attempt_count > 0) & (IS_CONFIRMED | _HAS_RUN))
)
# With `confirm` none has before Prembly confirms; that could not be asked leaves no question.
_MAY_HAVE_BEGUN = (Delivery.attempt_count > 0) & ~fn.EXISTS(
    Inquiry.select(Inquiry.id).where(
        Inquiry.purpose == Purpose.CONFIRM,
        (Inquiry.delivery == Delivery.id)
        # Of several deliveries that share an answer, one has the question.
        | ((Inquiry.event == Delivery.event) & (Inquiry.error == Delivery.last_error)),
    )
)
_DOUBTED = Spelt.of(Event.select(Event.id).where(STANDING == Standing.DOUBTED, IS_BELIEVED), Event)
_HAD = Spelt.of(
    Event.select(Delivery.action, Delivery.id, Case(None, [(_HAS_BEGUN, 1)], 0))
    .join(Delivery, on=(Delivery.event == Event.id))
    .where(
        STANDING.not_in([*BEFORE_RESULT, Standing.ELSEWHERE]),
        _HAS_BEGUN | _MAY_HAVE_BEGUN,
    ),
    Event,
)
_MADE_OF = Statement(
    Event.select(Event.id).where(
        Event.id == param("id"),
        Event.verified_by == events.STORED_BY,
        Event.body_digest == param("body_digest"),
        Event.received_at_ms >= param("at_ms"),
    )
)
