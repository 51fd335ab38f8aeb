"""Confirming an event before an action with `confirm` runs its hook: Prembly is asked, and its
answer must agree with the event and satisfy the action. Begin with `ConfirmGate.judge`."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from premblyd.config.models import Action
from premblyd.features.asking import agreement, answers
from premblyd.features.asking.agreement import Agreement, Finding
from premblyd.features.asking.answers import Question
from premblyd.features.asking.awaited import NewInquiry
from premblyd.features.asking.client import NO_KEY, Answer, AnswerKind, Inquirer
from premblyd.features.asking.hooks import CONFIRMED, KEPT_FACTS, Confirmed
from premblyd.features.asking.settings import CONFIRM
from premblyd.features.asking.settling import (
    Answers,
    Settling,
    new_inquiry,
    requirement_of,
    tell_answered,
)
from premblyd.features.asking.states import InquiryResult, Purpose
from premblyd.features.asking.tables import Confirmation
from premblyd.features.names.names import learn_names, lock_names
from premblyd.features.turns import once
from premblyd.features.turns.once import Ruling
from premblyd.features.turns.settings import ONCE
from premblyd.ground.errors import StoreUnavailableError
from premblyd.ground.times import Clock
from premblyd.prembly import events, payload
from premblyd.prembly.payload import StoredEvent, Verdict
from premblyd.queue.digests import Digests
from premblyd.queue.end import is_claimed_by
from premblyd.queue.jobs import Job, Result
from premblyd.queue.queue import Queue
from premblyd.store.engine import Transaction, insert, param, update
from premblyd.store.states import AttemptOutcome, State
from premblyd.store.tables import Delivery

RUNS_ELSEWHERE = "the hook runs for another event of the same verification at this moment"
AGAINST_IT = (
    "another event of its reference says no to something that Prembly's answer does not mention"
)
SETTLED_BEFORE = "settled since: another event of its reference, stored before, has the result"
ERASED = "its person was erased, so Prembly can't be asked to confirm it: the hook did not run"
CHANGED = "what Prembly confirmed was changed by hand and can't be read"
GRACE_S = 5 * 60.0  # for which Prembly is asked: its API may know a result later than its webhook
QUESTIONS = 4  # which it is asked at least
MAX_REMEMBERED = 10_000
# After so many questions: the fourth comes five minutes and twenty seconds after the first.
_WAITS_S = (20.0, 60.0, 240.0, GRACE_S)
_FIRST_WAIT_S, _MAX_WAIT_S = 10.0, 1800.0
_MANY = 1 << 20
_STORE_WAIT_S = 5.0
_RESULTS = {
    Finding.CONFIRMED: InquiryResult.CONFIRMED,
    Finding.CONTRADICTED: InquiryResult.CONTRADICTED,
    Finding.ASK_AGAIN: InquiryResult.UNSETTLED,
    Finding.STILL_OPEN: InquiryResult.UNSETTLED,
    Finding.SETTLED_SINCE: InquiryResult.SETTLED,
}


@dataclass(eq=False)
class ConfirmGate:
    """A gate of the dispatcher, before the hooks of actions with `confirm`: it asks Prembly."""

    _inquirer: Inquirer
    _queue: Queue
    _kept: Answers
    _clock: Clock

    def __post_init__(self) -> None:
        self._patience = Patience()

    def configure(self, settling: Settling) -> None:
        """Use the settings that this was made of from the next event on."""
        self._settling = settling

    @property
    def room(self) -> int:
        """Return 0 while Prembly can't be asked, 1 while a question is to show whether it can."""
        if not self._inquirer.can_ask or self._inquirer.wait_s:
            return 0
        return 1 if self._inquirer.circuit_open else _MANY

    def is_before(self, action: Action) -> bool:
        return CONFIRM.of(action) is not None

    async def judge(self, job: Job, action: Action) -> Job | Result:
        """Return the job when Prembly confirms its event, which is on record then; else how its run
        ends."""
        if CONFIRMED in job.vouched:  # before an earlier attempt
            return job if job.vouched[CONFIRMED] is not None else _dead(CHANGED)
        if job.event.is_erased:
            return _cancelled(ERASED)
        try:
            if job.event.verified_by == events.STORED_BY:  # it is Prembly's answer
                if not await self._withstands(job, action):
                    return _dead(AGAINST_IT)
                if job.attempt == 1:  # else it may be a replay, and Prembly has changed its mind
                    return await self._confirm_stored(job, action)
            question = answers.question_about(job.event.verdict)
            if question is None:
                return _dead(answers.NOTHING_TO_ASK_BY)
            self._patience.begin(job.delivery_id)
            answer = await self._inquirer.ask(question)
            if not answer.was_asked:
                return _later(answer.error or NO_KEY, answer.retry_after_s)
            return await self._judge(job, action, question, answer)
        except StoreUnavailableError:
            return _later("what Prembly answered could not be stored", _STORE_WAIT_S)

    async def _withstands(self, job: Job, action: Action) -> bool:
        """Return whether Prembly's own answer is enough for the action, together with what has come
        of its verification until now."""
        event = job.event
        requirement = requirement_of(action, event, self._settling.routing)
        others = await self._kept.others(event)
        try:
            return agreement.withstands(event.verdict, others, requirement)
        finally:
            event.drop_document()

    async def _confirm_stored(self, job: Job, action: Action) -> Job | Result:
        """Have Prembly's own answer confirm itself."""
        event = job.event
        reference = event.verdict.reference
        names = [payload.plain_id(reference)] if reference and ONCE.of(action) else []
        confirmed = by_itself(event)
        return await self._confirm(job, confirmed, event.received_at_ms, names, is_once=bool(names))

    async def _judge(
        self, job: Job, action: Action, question: Question, answer: Answer
    ) -> Job | Result:
        if answer.kind is not AnswerKind.KNOWN:
            asked = await self._record(_inquiry(job, question, answer))
            if answer.kind is AnswerKind.NOT_FOUND:
                return self._again(job, answer.why_not_found, asked)
            return _later(f"Prembly could not be asked: {answer.error}", self._pause_s(job, answer))
        found = await self._agreement(job, action, question, answer)
        if found.finding is Finding.SETTLED_SINCE:
            return await self._settled(job, question, answer, found)
        asked = await self._record(
            _inquiry(job, question, answer, _RESULTS[found.finding], found.words or None)
        )
        if found.finding is Finding.CONFIRMED:
            facts = {name: getattr(found.verdict, name) for name in found.stated}
            confirmed = Confirmed(facts=facts, sha256=answer.sha256)
            names = answers.all_names(question, answer.stated)
            is_once = ONCE.of(action) is not None
            return await self._confirm(job, confirmed, answer.at_ms, names, is_once=is_once)
        if found.finding is Finding.CONTRADICTED:
            return self._end(job, _dead(found.words))
        if found.finding is Finding.STILL_OPEN:
            return self._again(job, found.words, asked, _cancelled(found.words))
        return self._again(job, found.words, asked)

    async def _agreement(
        self, job: Job, action: Action, question: Question, answer: Answer
    ) -> Agreement:
        """Return what an answer means for a job."""
        settling = self._settling
        requirement = requirement_of(action, job.event, settling.routing)
        about = job.event.verdict, answer.stated, question, requirement
        decide = partial(agreement.decide, *about, names_reference=settling.names_reference)
        try:
            return await asyncio.to_thread(decide)  # it may read the body, which may be large
        finally:
            job.event.drop_document()

    async def _settled(
        self, job: Job, question: Question, answer: Answer, found: Agreement
    ) -> Result:
        """Store an answer that has the result which the event left open. The event itself is over:
        whatever is to run, runs for the answer."""
        verdict = job.event.verdict
        subject = Verdict(
            reference=verdict.reference or payload.session_reference(question.identifier),
            session_id=verdict.session_id,
        )
        if (words := self._settling.why_not_settled(subject, question, answer)) is not None:
            return _later(words, _FIRST_WAIT_S)
        added = await self._settling.store(
            self._kept,
            subject,
            question,
            answer,
            _inquiry(job, question, answer, InquiryResult.SETTLED),
            endpoint=job.event.endpoint,
            now_ms=self._clock.now_ms(),
        )
        return self._end(job, _cancelled(found.words if added.is_new else SETTLED_BEFORE))

    def _again(self, job: Job, reason: str, asked: int, end: Result | None = None) -> Result:
        """Return that Prembly is asked again; or the `end`, if it has been for long enough."""
        if self._patience.is_over(job.delivery_id, asked):
            return self._end(job, end or _dead(reason))
        return _later(reason, wait_s(asked))

    def _end(self, job: Job, end: Result) -> Result:
        self._patience.end(job.delivery_id)
        return end

    def _pause_s(self, job: Job, answer: Answer) -> float:
        """Return how long to wait while Prembly can't be asked."""
        if answer.kind is AnswerKind.REFUSED:  # a key that was mended is tried as soon; till then
            return _FIRST_WAIT_S  # there is no room
        age_ms = max(0, self._clock.now_ms() - job.event.received_at_ms)
        pause_s = min(max(_FIRST_WAIT_S, age_ms / 2000), _MAX_WAIT_S)
        return max(pause_s, answer.retry_after_s, self._inquirer.wait_s)

    async def _record(self, inquiry: NewInquiry) -> int:
        """Keep a question. Return how often its delivery was asked about without a result."""
        asked = await self._kept.record(inquiry)
        tell_answered(inquiry)
        return asked

    async def _confirm(
        self,
        job: Job,
        confirmed: Confirmed,
        at_ms: int,
        names: Sequence[str],
        *,
        is_once: bool,
    ) -> Job | Result:
        """Write down that the delivery is confirmed. Return its job when it is, still ours, and
        nothing else has run for the same verification."""
        ruling = await write_down(self._queue, job, confirmed, at_ms, names, is_once=is_once)
        if ruling is None:
            return _later("another attempt has taken over the delivery", 0)
        if ruling.wait_ms is not None:
            return _later(RUNS_ELSEWHERE, ruling.wait_ms / 1000)
        self._patience.end(job.delivery_id)
        if not ruling.runs:
            return Result(outcome=AttemptOutcome.INTERRUPTED, ends_as=State.SKIPPED)
        return replace(confirmed.job(job), idempotency_key=ruling.key or job.idempotency_key)


def write_down(
    queue: Queue,
    job: Job,
    confirmed: Confirmed,
    at_ms: int,
    names: Sequence[str] = (),
    *,
    is_once: bool = False,
) -> "asyncio.Future[Ruling | None]":
    """Write down what Prembly's answer of `at_ms` confirmed of the job's event, and by which names
    it knows the verification: its hook runs now. `is_once`: unless the ruling says that another
    has, or does, because of these names. None: the lease was lost, or the event was erased
    meanwhile; nothing changed."""

    def work(transaction: Transaction) -> Ruling | None:
        ruling = Ruling()
        known = learn_names(transaction, names, at_ms)
        if is_once and known:
            verdict = confirmed.job(job).event.verdict
            ruling = once.rule(
                *(transaction, job, known, verdict, at_ms),
                is_confirmed=lambda other_id: bool(transaction.look_up(KEPT_FACTS, [other_id])),
            )
        if not ruling.runs:
            if ruling.wait_ms is None and ruling.other_id is not None:
                once.note_other(transaction, job.delivery_id, ruling.other_id)
            return ruling
        changed = transaction.change(
            _SPEND,
            id=job.delivery_id,
            claim_token=job.claim_token,
            attempts_left=job.attempts_left,
        )
        if not changed:
            return None
        sha256 = confirmed.sha256
        digest = sha256 and Digests.of(transaction).of_body(sha256)
        about = {"at_ms": at_ms, "answer_digest": digest, "facts": json.dumps(confirmed.facts)}
        transaction.write(_CONFIRM, delivery_id=job.delivery_id, **about)
        return ruling

    return queue.within_claim(job, work, lock_names(names))


class Patience:
    """Since when Prembly is asked about which deliveries, as far as this process knows.

    Nobody ends that by setting a clock: the time since the first question is the kernel's, which
    counts a suspend and is not set. A restart begins it anew; how often was asked is on record.
    """

    def __init__(self) -> None:
        self._since_s: dict[int, float] = {}

    def begin(self, delivery_id: int) -> None:
        """Prembly is asked about a delivery now; perhaps it was before."""
        if delivery_id not in self._since_s and len(self._since_s) >= MAX_REMEMBERED:
            del self._since_s[next(iter(self._since_s))]  # is asked for longer, in the worst case
        self._since_s.setdefault(delivery_id, _now_s())

    def end(self, delivery_id: int) -> None:
        """Nothing more is asked about a delivery."""
        self._since_s.pop(delivery_id, None)

    def is_over(self, delivery_id: int, asked: int) -> bool:
        """Return whether a delivery was asked about for long enough, and often enough: `asked`
        times with an answer that says nothing of it."""
        since_s = self._since_s.get(delivery_id, float("inf"))
        return asked >= QUESTIONS and _now_s() - since_s >= GRACE_S


def by_itself(event: StoredEvent) -> Confirmed:
    """Return what an event states that is Prembly's answer itself."""
    verdict = event.verdict
    named = {"reference": verdict.reference} if verdict.reference is not None else {}
    return Confirmed(facts={**named, **answers.facts_of(verdict)}, sha256=event.body_sha256)


def wait_s(asked: int) -> float:
    """Return how long to wait after the question with this number."""
    return _WAITS_S[min(max(asked, 1), len(_WAITS_S)) - 1]


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _inquiry(
    job: Job,
    question: Question,
    answer: Answer,
    result: InquiryResult = InquiryResult.UNSETTLED,
    error: str | None = None,
) -> NewInquiry:
    ids = {"event_id": job.event.id, "delivery_id": job.delivery_id}
    return new_inquiry(Purpose.CONFIRM, question, answer, result, error=error, **ids)


def _dead(error: str) -> Result:
    """Return the result of a hook that is not run, because trying again can't help."""
    return Result(outcome=AttemptOutcome.FAILED, error=error, final=True)


def _cancelled(error: str) -> Result:
    """Return the result of a hook that is not run, and that needs nobody."""
    return Result(outcome=AttemptOutcome.INTERRUPTED, error=error, ends_as=State.CANCELLED)


def _later(error: str, in_s: float) -> Result:
    """Return the result of a hook that is not run now. It costs no attempt."""
    return Result(outcome=AttemptOutcome.INTERRUPTED, error=error, retry_after_s=in_s)


# Only now the attempt is spent: what comes before it is a question.
_SPEND = update(Delivery, "attempts_left", where=is_claimed_by(param("id"), param("claim_token")))
_STORED = ("delivery_id", "at_ms", "answer_digest", "facts")
_CONFIRM = insert(Confirmation, *_STORED, if_unique=True)  # else it did, and is told again
