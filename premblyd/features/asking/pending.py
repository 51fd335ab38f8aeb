"""Asking Prembly for the results of unsettled verifications, until each is settled or given up,
within the inquirer's rate.

All times count from the event, so a question that was missed while nothing ran is made up for once,
and the next one comes as if it had not been missed.
"""

import asyncio
import bisect
import functools
from collections.abc import Callable
from typing import Any

from premblyd.features.asking import answers
from premblyd.features.asking.answers import Question
from premblyd.features.asking.awaited import Asked, AwaitedQueue, NewInquiry, Waiting
from premblyd.features.asking.client import Answer, AnswerKind, Inquirer
from premblyd.features.asking.settings import Pending
from premblyd.features.asking.settling import Answers, Settling, new_inquiry, tell_answered
from premblyd.features.asking.standing import ASKED_ONCE, Standing, standing_of
from premblyd.features.asking.states import AwaitedState, InquiryResult, Purpose
from premblyd.features.asking.stored import of_doubted
from premblyd.ground import loops
from premblyd.ground.errors import StoreUnavailableError
from premblyd.ground.privacy import safe_id
from premblyd.ground.telemetry import tell
from premblyd.ground.times import DAY_MS, Clock
from premblyd.prembly.payload import Verdict

POLL_S = 1.0
PAUSE_S = 1.0  # after a failure of the database, or of ours
# Questions on their way. Few: anybody may forge thousands that are pending, and most of the rate is
# for hooks that wait for an answer.
MAX_AT_ONCE = 2
RETRY_MS = 5 * 60_000  # after a question without an answer
LATE_RETRY_MS = 60 * 60_000  # after the last one, which must not be lost to an outage
GRACE_MS = DAY_MS  # for which the last one may be tried
NIGHTS_MS = 7 * DAY_MS  # for which it is, once a day, if Prembly has never said anything
UNKNOWN_MS = 10 * 60_000  # Prembly's API may know of a verification later than its webhook
CANT_ASK = "Prembly can't be asked for it: its reference can be no id of Prembly's"


class PendingAsker:
    """Asks about what is due. `run` it as one task; `wake` tells the dispatcher of deliveries."""

    def __init__(
        self,
        queue: AwaitedQueue,
        kept: Answers,
        inquirer: Inquirer,
        clock: Clock,
        wake: Callable[[], None],
        *,
        is_leader: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_leader`: whether this daemon is the one that asks, where several share a database."""
        self._queue = queue
        self._kept = kept
        self._inquirer = inquirer
        self._clock = clock
        self._wake_dispatcher = wake
        self._is_leader = is_leader
        self._asking: dict[int, asyncio.Task[None]] = {}  # by the number of the waiting
        self._unanswered: set[int] = set()  # of these: whose answer has not come
        self._wake = asyncio.Event()
        self._stopping = False

    def configure(self, pending: Pending | None, settling: Settling) -> None:
        """Use these settings from the next question on. Without `pending` nothing is asked, and
        verifications keep waiting."""
        self._settling = settling
        self._pending = pending
        self.wake()

    def wake(self) -> None:
        """Look for what is due now."""
        self._wake.set()

    async def run(self) -> None:
        """Ask until `stop`. After a round that fails, pause and continue."""
        await loops.repeat(self._round, PAUSE_S, wake=self._wake, failed="pending.failed")

    async def stop(self) -> None:
        """Ask nothing more, and wait until the answers so far are stored. Unanswered questions are
        asked again after the next start."""
        self._stopping = True
        self.wake()
        for waiting_id in self._unanswered:
            self._asking[waiting_id].cancel()
        if self._asking:
            await asyncio.wait(self._asking.values())

    async def _round(self) -> float | None:
        if self._stopping:
            return None
        pending = self._pending
        if pending is None or not self._inquirer.can_ask or not self._is_leader():
            return POLL_S
        if pause_s := self._inquirer.wait_s:
            return min(pause_s, POLL_S)
        # While it is doubtful whether Prembly answers, one question is to show it.
        free = (1 if self._inquirer.circuit_open else MAX_AT_ONCE) - len(self._asking)
        if free <= 0:
            return POLL_S
        now_ms, offset_ms = self._clock.now_ms(), self._clock.offset_ms
        due = await self._queue.due(now_ms, free, list(self._asking))
        for waiting in due.waiting:
            task = asyncio.create_task(self._ask(waiting, offset_ms))
            self._asking[waiting.id] = task
            task.add_done_callback(functools.partial(self._ended, waiting.id))
        return 0 if due.has_settled else POLL_S  # there may be more that need no question

    def _ended(self, waiting_id: int, _: "asyncio.Task[None]") -> None:
        del self._asking[waiting_id]
        self.wake()

    async def _ask(self, waiting: Waiting, offset_ms: int) -> None:
        """Ask about what was found due when the clock's offset was this."""
        try:
            await self._follow(waiting, offset_ms)
        except StoreUnavailableError:
            await asyncio.sleep(PAUSE_S)  # it is still due, and is asked again
        # Whatever went wrong with one must not stop the others, nor be tried again without end.
        except Exception as error:  # noqa: BLE001
            tell("pending.failed", cause=error)
            await self._put_off(waiting, offset_ms, f"premblyd failed: {type(error).__name__}")

    async def _follow(self, waiting: Waiting, offset_ms: int) -> None:
        subject = Verdict(reference=waiting.reference, session_id=waiting.session_id)
        question = answers.question_about(subject)
        if question is None:
            return await self._end(waiting, None, CANT_ASK, was_asked=False)
        self._unanswered.add(waiting.id)
        try:
            answer = await self._inquirer.ask(question)
        finally:
            self._unanswered.discard(waiting.id)
        if not answer.was_asked:
            if not self._stopping:
                await asyncio.sleep(min(POLL_S, self._inquirer.wait_s or POLL_S))
            return None  # still due
        result, words = self._judge(waiting, subject, question, answer)
        inquiry = new_inquiry(
            Purpose.PENDING, question, answer, result, error=words, event_id=waiting.event_id
        )
        if result is InquiryResult.UNSETTLED:
            return await self._put_off(waiting, offset_ms, words, answer, inquiry)
        if result is not InquiryResult.SETTLED:
            by_id = waiting.event_id if waiting.standing is Standing.CODE else None
            told = {"ending": AwaitedState.SETTLED, "settled_by_id": by_id, "is_answered": True}
            return await self._end(waiting, None, words, inquiry, **told)
        added = await self._settling.store(
            self._kept,
            subject,
            question,
            answer,
            inquiry,
            endpoint=waiting.endpoint,
            now_ms=self._clock.now_ms(),
        )
        if added.is_new:
            self._wake_dispatcher()
        return None

    def _judge(
        self, waiting: Waiting, subject: Verdict, question: Question, answer: Answer
    ) -> tuple[InquiryResult, str | None]:
        """Return what an answer is worth, and why in words. SETTLED: it is to be stored."""
        error = self._settling.why_not_settled(subject, question, answer)
        if error is not None:
            return InquiryResult.UNSETTLED, error
        found = answer.stated.verdict
        if waiting.standing is Standing.DOUBTED:
            return of_doubted(found)
        is_code = waiting.standing is standing_of(found) is Standing.CODE
        if is_code and found.response_code == waiting.response_code:
            return InquiryResult.CONFIRMED, None
        return InquiryResult.SETTLED, None

    async def _put_off(
        self,
        waiting: Waiting,
        offset_ms: int,
        error: str | None,
        answer: Answer | None = None,
        inquiry: NewInquiry | None = None,
    ) -> None:
        """Ask again later, or give up: the answer settles nothing."""
        pending = self._pending
        if pending is None:
            return  # `pending` was taken out of the configuration: it waits on
        now_ms = self._now_ms(offset_ms)
        is_known = answer is not None and answer.kind is AnswerKind.KNOWN
        is_missing = answer is not None and answer.kind is AnswerKind.NOT_FOUND
        due_at_ms: int | None
        if is_known or is_missing:
            due_at_ms = next_due_ms(pending, waiting.created_at_ms, now_ms)
            if waiting.standing in ASKED_ONCE or (is_missing and _is_unknown(waiting, answer)):
                due_at_ms = None
        else:
            due_at_ms = retry_due_ms(
                pending,
                waiting.created_at_ms,
                waiting.due_at_ms,
                now_ms,
                round(answer.retry_after_s * 1000) if answer else 0,
                was_answered=waiting.answered_at_ms is not None,
            )
        said = {"is_answered": is_known or is_missing, "is_known": is_known}
        await self._end(waiting, due_at_ms, error, inquiry, **said)

    def _now_ms(self, offset_ms: int) -> int:
        """Return the time by the record's clock: it may have been set while Prembly was asked."""
        return self._clock.now_ms() - self._clock.offset_ms + offset_ms

    async def _end(
        self,
        waiting: Waiting,
        due_at_ms: int | None,
        error: str | None,
        inquiry: NewInquiry | None = None,
        **more: Any,
    ) -> None:
        """Keep what became of a waiting; `more` are fields of Asked."""
        asked = Asked(
            id=waiting.id,
            at_ms=self._clock.now_ms(),
            due_at_ms=due_at_ms,
            error=error,
            created_at_ms=waiting.created_at_ms,
            reference=waiting.reference,
            **more,
        )
        still_waiting = await self._queue.asked(asked, inquiry)
        tell_answered(inquiry)
        is_over = asked.due_at_ms is None and asked.ending is AwaitedState.GIVEN_UP
        if is_over and still_waiting:
            tell(
                "pending.given_up",
                event_id=waiting.event_id,
                reference=safe_id(waiting.reference),
                ask_count=waiting.ask_count + asked.was_asked,
                error=asked.error,
            )


def _is_unknown(waiting: Waiting, answer: Answer | None) -> bool:
    """Return whether Prembly has no such verification: it said so some time ago, and says it again,
    and neither its log nor an answer has ever had it."""
    since_ms = waiting.unknown_since_ms
    if answer is None or waiting.known_at_ms is not None or since_ms is None:
        return False
    return answer.at_ms - since_ms >= UNKNOWN_MS


def next_due_ms(pending: Pending, created_at_ms: int, now_ms: int) -> int | None:
    """Return when Prembly is asked next about an event of `created_at_ms`: after each of `ask_ms`,
    then again and again after the last, until `give_up_ms`; then once more. None: never more."""
    age_ms = now_ms - created_at_ms
    if age_ms >= pending.give_up_ms:
        return None
    number = bisect.bisect_right(pending.ask_ms, age_ms)
    if number < len(pending.ask_ms):
        next_ms = pending.ask_ms[number]
    else:
        last_ms = pending.ask_ms[-1]
        next_ms = (age_ms // last_ms + 1) * last_ms
    return created_at_ms + min(next_ms, pending.give_up_ms)


def retry_due_ms(
    pending: Pending,
    created_at_ms: int,
    due_at_ms: int,
    now_ms: int,
    retry_after_ms: int = 0,
    *,
    was_answered: bool = True,
) -> int | None:
    """Return when Prembly is asked again after the question of `due_at_ms` had no answer, which
    says nothing of the verification; None: never more. `was_answered`: an earlier one had."""
    next_ms = next_due_ms(pending, created_at_ms, now_ms)
    if next_ms is not None:
        return max(min(next_ms, now_ms + RETRY_MS), now_ms + retry_after_ms)
    late_ms = due_at_ms - created_at_ms - pending.give_up_ms
    if late_ms < GRACE_MS:
        return now_ms + max(LATE_RETRY_MS, retry_after_ms)
    if was_answered or late_ms >= NIGHTS_MS:
        return None
    return now_ms + max(DAY_MS, retry_after_ms)
