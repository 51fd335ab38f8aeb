"""What follows from Prembly's answer: a row for the question; and if it settles a verification, an
event with the answer's exact bytes and its deliveries, once for each verification. Deliveries that
waited for it end in the same transaction."""

import asyncio
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from peewee import Case, fn

from premblyd.config.models import Action, Config
from premblyd.config.routing import Routing, is_yes
from premblyd.features.asking import agreement, answers, awaited
from premblyd.features.asking.agreement import Requirement
from premblyd.features.asking.answers import Question
from premblyd.features.asking.awaited import NewInquiry
from premblyd.features.asking.client import Answer, AnswerKind
from premblyd.features.asking.settings import CONFIRM, PREMBLY, PremblyApi
from premblyd.features.asking.standing import BEFORE_RESULT, Standing
from premblyd.features.asking.states import InquiryResult, Purpose
from premblyd.features.asking.stored import (
    IS_BELIEVED,
    STANDING,
    found_others,
    of_doubted,
    settled_in_record,
)
from premblyd.features.asking.tables import IS_CONFIRMED, Inquiry
from premblyd.features.names.names import Spelt, known_as, learn_names, lock_names, look_up
from premblyd.ground.expressions import Budget, EvaluationError
from premblyd.ground.privacy import digest_of, safe_id
from premblyd.ground.telemetry import tell
from premblyd.prembly import events
from premblyd.prembly.payload import WHEN_NAMES, StoredEvent, Verdict, Webhook
from premblyd.queue import hooks, inbox
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.store.engine import BulkInsert, Statement, Transaction, param
from premblyd.store.states import AttemptOutcome, State
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

    def record(self, inquiry: NewInquiry) -> "asyncio.Future[int]":
        """Keep a question about a delivery, as `awaited.record` does."""
        return self._writer.call(lambda each: awaited.record(each, inquiry), Step.EVIDENCE)

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
        added = Added(event_id, _key_of(transaction, event_id), False)
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
        added = inbox.add_event(transaction, webhook, to_run, named)
        if not added.is_erased:
            _skip(transaction, added.event_id, skipped, webhook.received_at_ms)
    if inquiry is not None:
        stored_id = added.event_id if added.is_new else None
        awaited.add(transaction, replace(inquiry, stored_event_id=stored_id))
    awaited.settle(transaction, dict.fromkeys(references, added.event_id), webhook.received_at_ms)
    return added


def _key_of(transaction: Transaction, event_id: int) -> str:
    """Return the key of an event; empty if there is none."""
    row = transaction.row(_KEY_OF, id=event_id)
    return str(row[0]) if row else ""


def _skip(
    transaction: Transaction, event_id: int, skipped: Mapping[NewDelivery, int], now_ms: int
) -> None:
    """Store further deliveries of an event, each with the one that runs in its place, or has."""
    rows = [
        (event_id, each.action, State.SKIPPED, each.attempts, now_ms, now_ms, other_id)
        for each, other_id in skipped.items()
    ]
    transaction.write_many(_INSERT_SKIPPED, rows)


class Settling:
    """Makes events of answers, as one configuration says: whom Prembly's answers are for."""

    def __init__(self, settings: Config, routing: Routing | None = None) -> None:
        """`routing`: of its actions, where there is one."""
        self.routing = routing or Routing(settings.actions)
        api = PREMBLY.of(settings) or PremblyApi()
        self._host = urlsplit(api.url).hostname or ""
        self.names_reference = api.status.names_reference

    def why_not_settled(self, subject: Verdict, question: Question, answer: Answer) -> str | None:
        """Return why an answer is not Prembly's last word on what was asked for, in words that
        quote nothing; None: it is. `subject`: the reference by which the record knows the
        verification, and its session."""
        if answer.kind is not AnswerKind.KNOWN:
            return answer.why_not_found if answer.kind is AnswerKind.NOT_FOUND else answer.error
        stated = answer.stated
        found = stated.verdict
        asked = replace(subject, outcome=found.outcome, response_code=found.response_code)
        if question.reference is not None:  # who sent the event may have invented a session to it
            asked = replace(asked, session_id=None)
        no_use = agreement.why_of_no_use(
            asked, stated, question, names_reference=self.names_reference
        )
        if no_use is not None:
            return no_use.words
        return None if stated.is_final else agreement.NOT_YET

    def new_answer(
        self, subject: Verdict, question: Question, answer: Answer, *, endpoint: str, now_ms: int
    ) -> NewAnswer:
        """Return what is to be stored of an answer that is KNOWN, as an event of this endpoint. Of
        a large one that takes a while: not on the loop.

        Its actions must take it together with all that the record has of the verification, too.

        The event has the reference by which the record knows the verification, whatever else the
        answer calls it: so `once` and what waits find it. Nothing is taken over from the event that
        began it, which nobody may have confirmed.
        """
        stated, reference = answer.stated, subject.reference or ""
        webhook = Webhook(
            endpoint=endpoint,
            received_at_ms=now_ms,
            remote_ip=self._host,
            token=None,
            headers="[]",
            body=answer.body,
            verified_by=events.STORED_BY,
            verdict=replace(stated.verdict, reference=reference, type=events.STATUS),
        )
        actions = {action.name: action for action in self.routing.actions_for(webhook)}

        def is_for(name: str, others: Sequence[Verdict]) -> bool:
            requirement = requirement_of(actions[name], webhook, self.routing)
            return agreement.withstands(webhook.verdict, others, requirement)

        return NewAnswer(
            webhook=webhook,
            deliveries=[NewDelivery.of(action) for action in actions.values()],
            asked=reference,
            is_for=is_for,
            names=answers.all_names(question, stated),
            confirming={name for name, action in actions.items() if CONFIRM.of(action)},
        )

    async def store(
        self,
        kept: Answers,
        subject: Verdict,
        question: Question,
        answer: Answer,
        inquiry: NewInquiry | None,
        *,
        endpoint: str,
        now_ms: int,
    ) -> Added:
        """Store an answer that settles what was asked for, with the record of its question."""
        # Also of a small one: its actions' expressions may take many steps.
        new = await asyncio.to_thread(
            self.new_answer, subject, question, answer, endpoint=endpoint, now_ms=now_ms
        )
        added = await kept.add(new, inquiry)
        tell_answered(inquiry, added)
        return added


def requirement_of(action: Action, webhook: Webhook, routing: Routing) -> Requirement:
    """Return what an action asks of an event, to be asked again of what an answer states. `routing`
    knows the codes of all actions."""
    when = action.when
    looks_at = when.looks_at(WHEN_NAMES) if when else ()
    budget = Budget()  # shared by all that is asked of one event

    def says_yes(verdict: Verdict) -> bool:
        if when is None:
            return True
        event = replace(webhook, verdict=verdict)
        # A body that nothing looks at is not read: it may have 16 MiB, and this may be the
        # loop.
        event.keep_document(webhook.document if "body" in looks_at else None)
        try:
            return is_yes(when.search(event.context(), budget))
        except EvaluationError:
            return False

    confirm = CONFIRM.of(action)
    return Requirement(
        looks_at=looks_at,
        may_be_unstated=confirm.unstated if confirm else (),
        takes_code=functools.partial(routing.takes_code, action),
        says_yes=says_yes,
    )


def new_inquiry(
    purpose: Purpose,
    question: Question,
    answer: Answer,
    result: InquiryResult,
    *,
    error: str | None = None,
    event_id: int | None = None,
    delivery_id: int | None = None,
) -> NewInquiry:
    """Return the record of a question. `result`: what an answer came to that is KNOWN."""
    is_known = answer.kind is AnswerKind.KNOWN
    return NewInquiry(
        at_ms=answer.at_ms,
        purpose=purpose,
        result=result if is_known else InquiryResult(answer.kind),
        reference=question.reference,
        duration_ms=answer.duration_ms,
        event_id=event_id,
        delivery_id=delivery_id,
        http_status=answer.http_status,
        error=error or answer.error,
        answer_bytes=len(answer.body) if answer.http_status else None,
        answer_sha256=answer.sha256,
    )


def tell_answered(inquiry: NewInquiry | None, added: Added | None = None) -> None:
    """Tell the log of a question, when its record is stored; None: somebody else asked it."""
    if inquiry is None:
        return
    tell(
        "inquiry.answered",
        purpose=str(inquiry.purpose),
        result=str(inquiry.result),
        event_id=inquiry.event_id,
        delivery=inquiry.delivery_id,
        stored_event_id=added.event_id if added and added.is_new else None,
        reference=(digest_of if added and added.is_erased else safe_id)(inquiry.reference),
        http_status=inquiry.http_status,
        error=inquiry.error,
        answer_bytes=inquiry.answer_bytes,
        duration_ms=inquiry.duration_ms,
    )


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
        Inquiry.purpose == Purpose.CONFIRM, Inquiry.delivery == Delivery.id
    )
)
_KEY_OF = Statement(Event.select(Event.key).where(Event.id == param("id")))
_INSERT_SKIPPED = BulkInsert(
    Delivery,
    *("event_id", "action", "state", "attempts_left", "created_at_ms", "finished_at_ms"),
    "ran_instead_id",
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
