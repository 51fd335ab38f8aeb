"""Finding what never came, and asking Prembly for it.

Nothing here is the daemon's: a command does this beside it, on a connection of its own. What is
stored is on the disk one by one, so that whatever interrupts it, the next run goes on from there.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar
from urllib.parse import urlencode

from premblyd.ask.client import Answer, AnswerKind, Inquirer
from premblyd.ask.logpages import LogEntry, LogPage, LogPageError, read_page
from premblyd.ask.logreading import Fetch
from premblyd.ask.settling import Settling, new_inquiry
from premblyd.config.inquiries import LogsQuestion
from premblyd.errors import (
    NoAnswerError,
    NotAllowedToAskError,
    PremblydError,
    TryAgainError,
    UnreadableLogError,
)
from premblyd.model.tables import InquiryResult, Purpose
from premblyd.prembly import answers
from premblyd.prembly.answers import Question
from premblyd.prembly.payload import Verdict, session_reference
from premblyd.queue.settling import NewAnswer
from premblyd.verifications.questions import NewInquiry

AT_ONCE = 16  # questions on their way: the rate holds them apart
TRIES = 4  # of one question, while Prembly can't answer
FIRST_WAIT_S = 1.0  # doubles
LONGEST_WAIT_S = 120.0  # for a pause that Prembly asks for, or that its failures demand
STORE_TRIES = 30  # of a commit, while another program has the database locked
_DIGEST = re.compile(r"session-[0-9a-f]{24}")  # as payload.session_reference makes it
_SESSION = re.compile(r"(sdk_)?session[_-].*", re.IGNORECASE | re.DOTALL)
T = TypeVar("T")


class Fate(StrEnum):
    """What became of a verification of which no event says how it ended."""

    MISSING = "missing"  # no event of it came, and nobody has asked for it
    LEFT_OPEN = "unsettled"  # an event came and left it open, Prembly's log says that it ended
    STORED = "stored"
    CAME = "came"  # meanwhile, by itself
    NOT_FOUND = "not found"  # Prembly's log knows it, and its API does not
    UNSETTLED = "not settled"  # Prembly does not know yet either
    UNASKABLE = "can't be asked for"


@dataclass(slots=True, kw_only=True)
class Absent:
    """A verification that Prembly, or a list, knows of, and of which no event says how it
    ended."""

    ids: tuple[str, ...] = field(repr=False)
    line: int | None = None  # of the list
    at_ms: int | None = None
    code: str | None = None
    status: str | None = None
    fate: Fate = Fate.MISSING
    error: str | None = None
    event_id: int | None = None  # as which it was stored, or came

    @classmethod
    def of(cls, entry: LogEntry, fate: Fate = Fate.MISSING) -> "Absent":
        return cls(
            ids=entry.ids, at_ms=entry.at_ms, code=entry.code, status=entry.status, fate=fate
        )

    @property
    def reference(self) -> str:
        """By what the record knows it, or will: a session only by a digest, as its id is a
        secret."""
        name = next((text for text in self.ids if not is_session(text)), None)
        return name or session_reference(self.ids[0])

    @property
    def session_id(self) -> str | None:
        return next(filter(is_session, self.ids), None)

    @property
    def is_missing(self) -> bool:
        return self.fate not in (Fate.STORED, Fate.CAME)


def is_session(identifier: str) -> bool:
    """Return whether this is the id of an SDK session, which opens it."""
    return _SESSION.fullmatch(identifier) is not None and not _is_digest(identifier)


def _is_digest(reference: str) -> bool:
    """Return whether this stands for a session, of which no more is known."""
    return _DIGEST.fullmatch(reference) is not None


def fetching(inquirer: Inquirer, question: LogsQuestion) -> Fetch:
    """Return what fetches pages of Prembly's log. It raises NoAnswerError when Prembly can't be
    reached, NotAllowedToAskError when it refuses the key, PremblydError when it has no log."""

    async def fetch(parameters: dict[str, str]) -> LogPage | None:
        path = f"{question.path}?{urlencode(parameters)}"
        is_first = parameters[question.parameters.page] == "1"

        async def ask() -> Answer:
            return await inquirer.fetch(question.method, path)

        def read(answer: Answer) -> LogPage | None:
            if answer.kind is AnswerKind.NOT_FOUND and not is_first:
                return None
            if answer.kind is AnswerKind.NOT_FOUND:
                raise PremblydError(
                    f"Prembly has no log at {question.path} ({answer.error}): see"
                    " `prembly: {logs: …}`."
                )
            return read_page(answer.body, question)

        return await _patiently(ask, read)

    return fetch


async def _patiently(ask: Callable[[], Awaitable[Answer]], read: Callable[[Answer], T]) -> T:
    """Ask until there is an answer that can be read, a few times."""
    wait_s = FIRST_WAIT_S
    for attempt in range(1, TRIES + 1):
        answer = await ask()
        if answer.kind is AnswerKind.REFUSED:
            raise NotAllowedToAskError(answer.http_status)
        why, error = NoAnswerError, answer.error or ""
        if answer.kind is not AnswerKind.UNAVAILABLE:
            try:
                return read(answer)
            except LogPageError as failed:  # perhaps a proxy's page
                why, error = UnreadableLogError, str(failed)
        pause_s = max(answer.retry_after_s, wait_s)
        if attempt == TRIES or pause_s > LONGEST_WAIT_S:
            raise why(error, round(answer.retry_after_s))
        await asyncio.sleep(pause_s)
        wait_s *= 2
    raise AssertionError("the last attempt returns or raises")


class Record(Protocol):
    """What a reconciliation does to the record: each in a transaction of its own. It raises
    TryAgainError while the database is locked."""

    def store(self, new: NewAnswer, inquiry: NewInquiry) -> tuple[int, bool]:
        """Store an answer. Return its event's number, and whether the event is new."""
        ...

    def note(self, inquiry: NewInquiry) -> None:
        """Keep a question that settled nothing."""
        ...


class Reconciler:
    """Asks Prembly for what is absent, and stores the answers."""

    def __init__(
        self,
        inquirer: Inquirer,
        settling: Settling,
        record: Record,
        *,
        endpoint: str,
        now_ms: Callable[[], int],
    ) -> None:
        self._inquirer = inquirer
        self._settling = settling
        self._record = record
        self._endpoint = endpoint
        self._now_ms = now_ms

    async def ask_for(
        self, absent: Sequence[Absent], after_each: Callable[[Absent], object] = lambda _: None
    ) -> None:
        """Ask for each of `absent`, whose fate then says what became of it; `after_each` is called
        then. Raise NoAnswerError, NotAllowedToAskError or TryAgainError when it can't go on."""
        left = iter(absent)
        workers = [
            asyncio.create_task(self._work(left, after_each))
            for _ in range(min(AT_ONCE, len(absent)))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, left: Iterable[Absent], after_each: Callable[[Absent], object]) -> None:
        for each in left:
            await self._follow(each)
            after_each(each)

    async def _follow(self, each: Absent) -> None:
        subject = Verdict(reference=each.reference, session_id=each.session_id)
        question = answers.question_about(subject)
        if question is None or (_is_digest(each.reference) and not each.session_id):
            each.fate = Fate.UNASKABLE
            return
        asked = question

        async def ask() -> Answer:
            return await self._inquirer.ask(asked)

        answer = await _patiently(ask, lambda answer: answer)
        if answer.kind is AnswerKind.NOT_FOUND:
            each.fate, each.error = Fate.NOT_FOUND, answer.why_not_found
            await self._note(question, answer, None)
            return
        error = self._settling.why_not_settled(subject, question, answer)
        if error is not None:
            each.fate, each.error = Fate.UNSETTLED, error
            await self._note(question, answer, error)
            return
        new = self._settling.new_answer(
            subject, question, answer, endpoint=self._endpoint, now_ms=self._now_ms()
        )
        inquiry = new_inquiry(Purpose.RECONCILE, question, answer, InquiryResult.SETTLED)
        each.event_id, is_new = await _when_unlocked(lambda: self._record.store(new, inquiry))
        each.fate = Fate.STORED if is_new else Fate.CAME

    async def _note(self, question: Question, answer: Answer, error: str | None) -> None:
        inquiry = new_inquiry(
            Purpose.RECONCILE, question, answer, InquiryResult.UNSETTLED, error=error
        )
        await _when_unlocked(lambda: self._record.note(inquiry))


async def _when_unlocked(work: Callable[[], T]) -> T:
    """Do `work`, again while the database is locked."""
    for _ in range(STORE_TRIES - 1):
        try:
            return work()
        except TryAgainError:
            await asyncio.sleep(1)
    return work()
