"""Confirming an event before the hook of an action with `confirm` runs: Prembly is asked for it,
and must say the same."""

import asyncio

from premblyd.clock import Clock
from premblyd.errors import StoreUnavailableError
from premblyd.inquiry.client import NO_KEY, Answer, AnswerKind, Inquirer, new_inquiry, tell_answered
from premblyd.prembly import answers, events
from premblyd.prembly.answers import Match, Question
from premblyd.store.inquiries import DOUBTS, Inquiries, NewInquiry
from premblyd.store.jobs import Job, Result
from premblyd.store.models import AttemptOutcome, InquiryResult, Purpose
from premblyd.store.queue import Queue

NOT_FOUND = "Prembly knows no such verification"
# Prembly's API may know a result a little later than its webhook says it.
GRACE_MS = 5 * 60_000
_FIRST_WAIT_S, _MAX_WAIT_S = 10.0, 1800.0
_MANY = 1 << 20
_NEW_MS = 10_000
_STORE_WAIT_S = 5.0
_RESULTS = {
    Match.SAME: InquiryResult.CONFIRMED,
    Match.OTHER: InquiryResult.CONTRADICTED,
    Match.OPEN: InquiryResult.UNSETTLED,
}


class Confirmation:
    """The gate of the dispatcher: it asks Prembly."""

    def __init__(
        self, inquirer: Inquirer, inquiries: Inquiries, queue: Queue, clock: Clock
    ) -> None:
        self._inquirer = inquirer
        self._inquiries = inquiries
        self._queue = queue
        self._clock = clock

    @property
    def room(self) -> int:
        """Return 0 while Prembly can't be asked, 1 while a question is to show whether it can."""
        if not self._inquirer.can_ask or self._inquirer.wait_s:
            return 0
        return 1 if self._inquirer.is_doubtful else _MANY

    async def judge(self, job: Job) -> Result | None:
        """Return None when Prembly says what the event of `job` says; else how its run ends."""
        event = job.event
        if job.is_confirmed:
            return None
        try:
            if event.verified_by == events.STORED_BY:  # it is Prembly's answer
                return await self._confirm(job, event.received_at_ms, event.body_sha256.hex())
            question = answers.question_about(event.verdict)
            if question is None:
                return _dead(answers.NOTHING_TO_ASK_BY)
            with self._inquirer.for_a_hook():
                answer = await self._inquirer.ask(question, newer_than_ms=_newer_than_ms(job))
            return await self._judge(job, question, answer)
        except StoreUnavailableError:
            return _later("what Prembly answered could not be stored", _STORE_WAIT_S)

    def interrupt(self) -> None:
        """Ask nothing more: the daemon stops."""
        self._inquirer.interrupt()

    async def _judge(self, job: Job, question: Question, answer: Answer) -> Result | None:
        if not answer.was_asked:
            return _later(answer.error or NO_KEY, answer.retry_after_s)
        result, words = None, None
        if answer.verdict:
            comparison = answers.compare(job.event.verdict, answer.verdict, question)
            result, words = _RESULTS[comparison.match], comparison.words or None
        inquiry = new_inquiry(
            question,
            answer,
            Purpose.CONFIRM,
            result,
            error=words,
            event_id=job.event.id,
            delivery_id=job.delivery_id,
        )
        recorded = asyncio.ensure_future(self._record(inquiry, answer))
        try:
            if result is InquiryResult.CONFIRMED:  # in one transaction with the record
                return await self._confirm(job, answer.at_ms, answer.sha256)
        finally:
            await recorded
        if result is InquiryResult.CONTRADICTED:
            return _dead(words or "")
        age_ms = max(0, self._clock.now_ms() - job.event.received_at_ms)
        if answer.kind is AnswerKind.NOT_FOUND or result is InquiryResult.UNSETTLED:
            reason = words or NOT_FOUND
            if age_ms >= GRACE_MS:
                return _dead(reason)
            return _later(reason, max(2 * _FIRST_WAIT_S, 3 * age_ms / 1000))
        wait_s = min(max(_FIRST_WAIT_S, age_ms / 2000), _MAX_WAIT_S)
        wait_s = max(wait_s, answer.retry_after_s, self._inquirer.wait_s)
        if answer.kind is AnswerKind.REFUSED:  # a key that was mended is tried as soon; till then
            wait_s = _FIRST_WAIT_S  # there is no room
        return _later(f"Prembly could not be asked: {answer.error}", wait_s)

    async def _record(self, inquiry: NewInquiry, answer: Answer) -> None:
        if not answer.is_shared:
            await self._inquiries.record(inquiry)
            tell_answered(inquiry)
        elif inquiry.result in DOUBTS:
            await self._inquiries.record_doubt(inquiry)

    async def _confirm(self, job: Job, at_ms: int, sha256: str | None) -> Result | None:
        """Write down that the delivery is confirmed. Return None when it is, and still ours."""
        if await self._queue.confirm(job, at_ms, sha256):
            return None
        return _later("the delivery is another attempt's by now", 0)


def _newer_than_ms(job: Job) -> int:
    """Return since when an answer is good enough that somebody else asked for: it must be newer
    than the event. Later, and for a replay, it must be new too."""
    is_first = job.attempt == 1
    return max(job.event.received_at_ms, 0 if is_first else job.started_at_ms - _NEW_MS)


def _dead(error: str) -> Result:
    """Return the result of a hook that is not run, because trying again can't help."""
    return Result(outcome=AttemptOutcome.FAILED, error=error, final=True)


def _later(error: str, wait_s: float) -> Result:
    """Return the result of a hook that is not run now. It costs no attempt."""
    return Result(outcome=AttemptOutcome.INTERRUPTED, error=error, retry_after_s=wait_s)
