"""What follows from Prembly's answer: a row for the question; and if it settles a verification, an
event with the answer's exact bytes. features/asking/answering.py commits that."""

import asyncio
import functools
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from premblyd.config.models import Action, Config
from premblyd.config.routing import Routing, is_yes
from premblyd.features.asking import agreement, answers
from premblyd.features.asking.agreement import Requirement
from premblyd.features.asking.answering import Answers, NewAnswer
from premblyd.features.asking.answers import Question
from premblyd.features.asking.client import Answer, AnswerKind
from premblyd.features.asking.questions import NewInquiry
from premblyd.features.asking.settings import CONFIRM, PREMBLY, PremblyApi
from premblyd.ground.expressions import Budget, EvaluationError
from premblyd.ground.privacy import digest_of, safe_id
from premblyd.ground.telemetry import tell
from premblyd.prembly import conditions, events
from premblyd.prembly.payload import Verdict, Webhook
from premblyd.queue.inbox import Added, NewDelivery
from premblyd.store.states import InquiryResult, Purpose


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
    looks_at = conditions.names(when) if when else ()
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
        wait_until_ms=answer.wait_until_ms,
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
        stored_event_id=added.event_id if added and added.has_answer else None,
        reference=(digest_of if added and added.is_erased else safe_id)(inquiry.reference),
        http_status=inquiry.http_status,
        error=inquiry.error,
        answer_bytes=inquiry.answer_bytes,
        duration_ms=inquiry.duration_ms,
    )
