"""Reconciling the record with Prembly: finding what its log, or a list, has that never came here or
was left open, asking for it, and storing the answers. Begin with `Reconciliation`.

Nothing here is the daemon's: a command does this beside it, on a connection of its own. What is
stored is on the disk one by one, so that whatever interrupts it, the next run goes on from there.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from premblyd.ask.client import AnswerKind, Inquirer
from premblyd.ask.log import Log, LogEntry, Window, fetching, patiently, read_log
from premblyd.ask.settling import Settling, new_inquiry
from premblyd.config.inquiries import PremblyApi
from premblyd.config.models import Config
from premblyd.engines.connections import connect_operator
from premblyd.engines.engine import Database, Transaction
from premblyd.errors import LacksRightsError, PremblydError, TryAgainError
from premblyd.hosts.heartbeat import reconciled
from premblyd.model.tables import InquiryResult, Purpose
from premblyd.prembly import answers
from premblyd.prembly.payload import Verdict
from premblyd.queue.settling import add_answer
from premblyd.record.matching import (
    TELLING,
    is_digest,
    is_session,
    known_ids,
    known_sessions,
    name_of,
)
from premblyd.times import DAY_MS, Clock
from premblyd.verifications import erased, questions
from premblyd.words import counted

MOVED = (
    "entries of Prembly's log moved between its pages while they were read, so that some may be"
    " missed. Try again later."
)
AT_ONCE = 16  # questions on their way: the rate holds them apart
STORE_TRIES = 30  # of a commit, while another program has the database locked
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
    lack: Fate = Fate.MISSING  # MISSING or LEFT_OPEN, before anybody asked for it
    fate: Fate = Fate.MISSING
    error: str | None = None
    event_id: int | None = None  # as which it was stored, or came

    @classmethod
    def of(cls, entry: LogEntry, fate: Fate = Fate.MISSING) -> "Absent":
        said: dict[str, Any] = {"at_ms": entry.at_ms, "code": entry.code, "status": entry.status}
        return cls(ids=entry.ids, lack=fate, fate=fate, **said)

    @property
    def reference(self) -> str:
        return name_of(self.ids)

    @property
    def session_id(self) -> str | None:
        return next(filter(is_session, self.ids), None)

    @property
    def is_missing(self) -> bool:
        return self.fate not in (Fate.STORED, Fate.CAME)


@dataclass(slots=True, kw_only=True)
class Reconciliation:
    """One run. First `compare_list` for a list, or a `window` for the log; then `run`. `show` is
    told of what is done how far it is, and of how much."""

    settings: Config
    database: Database
    endpoint: str  # as whose events answers are stored
    stores: bool
    clock: Clock  # of the database
    window: Window | None = None
    show: Callable[[str, int, int | None], object] = lambda *_: None
    compared: int = 0
    log: Log = field(default_factory=Log)  # as far as it was read
    open: int = 0  # verifications that have not ended, as the log says
    without_time: int = 0
    erased: int = 0  # of the absent: of who was erased
    too_old: int = 0  # of the absent: what named a person was removed, if it came
    absent: list[Absent] = field(default_factory=list)
    stopped_by: PremblydError | None = None
    unsure: str | None = None  # why something may be missing all the same
    is_empty: bool = False  # the log has nothing of this time: nothing can be compared
    _was_read: bool = False  # the log, and it was compared

    @property
    def missing(self) -> list[Absent]:
        return [each for each in self.absent if each.is_missing]

    @property
    def stored(self) -> list[Absent]:
        return [each for each in self.absent if not each.is_missing]

    @property
    def left_open(self) -> list[Absent]:
        """Of the missing, those of which an event came that does not say how they ended."""
        return [each for each in self.missing if each.fate is Fate.LEFT_OPEN]

    def compare_list(self, references: Mapping[str, int]) -> None:
        """Find which references of a list have no event; each has the number of its line."""
        self.compared = len(references)
        self._keep_absent(
            [Absent(ids=(reference,), line=line) for reference, line in references.items()]
        )

    async def run(self) -> None:
        """Ask what there is to ask. What stops that early is `stopped_by`."""
        if self.window is None and not self.stores:
            return
        with contextlib.closing(Inquirer(self.clock)) as inquirer:
            inquirer.configure(self.settings.prembly)
            try:
                if self.window is not None:
                    await self._read_log(inquirer, self.window)
                if self.stores and self.absent:
                    await self._ask_for_absent(inquirer)
            except PremblydError as error:
                self.stopped_by = error

    async def _read_log(self, inquirer: Inquirer, window: Window) -> None:
        self.show("reading the log", 0, None)
        question = (self.settings.prembly or PremblyApi()).logs
        fetch = fetching(inquirer, question)
        log = await read_log(question, window, fetch, after_page=self._after_page)
        self.unsure = _why_unsure(log, window)
        self.is_empty = not (log.entries or log.not_expected)
        ended = [entry for entry in log.entries.values() if not entry.is_open]
        self.open = len(log.entries) - len(ended)
        self.without_time = sum(entry.at_ms is None for entry in log.entries.values())
        self.compared = len(ended)
        self._keep_absent([Absent.of(entry) for entry in ended])
        final = [entry for entry in ended if entry.is_final]
        self.absent += self._left_open([Absent.of(entry, Fate.LEFT_OPEN) for entry in final])
        self._was_read = True

    def _after_page(self, log: Log) -> None:
        self.log = log
        self.show("reading the log", log.pages, log.total_pages)

    def _keep_absent(self, candidates: list[Absent]) -> None:
        """Keep those that the record has no event of."""
        have = known_ids(self.database, _ids(candidates))
        left = [each for each in candidates if have.isdisjoint(each.ids)]
        since_ms = self.window.since_ms - DAY_MS if self.window else None
        have = known_sessions(self.database, filter(is_session, _ids(left)), since_ms=since_ms)
        self.absent = self._expected([each for each in left if have.isdisjoint(each.ids)])

    def _expected(self, absent: list[Absent]) -> list[Absent]:
        """Return those of which the record should have an event by that name: not what was erased,
        nor what is so old that `retention` has removed the name."""
        ids = _ids(absent)
        were_erased = self.database.look(lambda each: erased.which_erased(each, ids)).keys()
        left = [each for each in absent if were_erased.isdisjoint(each.ids)]
        self.erased += len(absent) - len(left)
        period_ms = self.settings.retention.names_ms
        if period_ms is None:
            return left
        since_ms = self.clock.now_ms() - period_ms
        young = [each for each in left if each.at_ms is None or each.at_ms >= since_ms]
        self.too_old += len(left) - len(young)
        return young

    def _left_open(self, candidates: list[Absent]) -> list[Absent]:
        """Return those of which the record has events, and none that says how they ended. What is
        doubted does, if it is about a verification: it is for a person to look at."""
        ids = _ids(candidates)
        have, told = known_ids(self.database, ids), known_ids(self.database, ids, TELLING)
        return [
            each
            for each in candidates
            if not have.isdisjoint(each.ids) and told.isdisjoint(each.ids)
        ]

    async def _ask_for_absent(self, inquirer: Inquirer) -> None:
        """Ask for each of `absent`, whose fate then says what became of it. Raise NoAnswerError,
        NotAllowedToAskError or TryAgainError when it can't go on."""
        self.show("asking", 0, len(self.absent))
        settling = Settling(self.settings)
        left, done = iter(self.absent), itertools.count(1)

        async def work() -> None:
            for each in left:
                await self._ask_for(each, inquirer, settling)
                self.show("asking", next(done), len(self.absent))

        workers = [asyncio.create_task(work()) for _ in range(min(AT_ONCE, len(self.absent)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _ask_for(self, each: Absent, inquirer: Inquirer, settling: Settling) -> None:
        subject = Verdict(reference=each.reference, session_id=each.session_id)
        question = answers.question_about(subject)
        if question is None or (is_digest(each.reference) and not each.session_id):
            each.fate = Fate.UNASKABLE
            return
        answer = await patiently(lambda: inquirer.ask(question), lambda answer: answer)
        if answer.kind is AnswerKind.NOT_FOUND:
            each.fate, each.error, why_not = Fate.NOT_FOUND, answer.why_not_found, None
        elif (why_not := settling.why_not_settled(subject, question, answer)) is not None:
            each.fate, each.error = Fate.UNSETTLED, why_not
        else:
            new = settling.new_answer(
                subject, question, answer, endpoint=self.endpoint, now_ms=self.clock.now_ms()
            )
            inquiry = new_inquiry(Purpose.RECONCILE, question, answer, InquiryResult.SETTLED)
            added = await self._commit(lambda transaction: add_answer(transaction, new, inquiry))
            each.event_id = added.event_id
            each.fate = Fate.STORED if added.is_new else Fate.CAME
            return
        unsettled = new_inquiry(
            Purpose.RECONCILE, question, answer, InquiryResult.UNSETTLED, error=why_not
        )

        def keep(transaction: Transaction) -> None:
            if not erased.which_erased(transaction, each.ids):  # meanwhile
                questions.add(transaction, unsettled)

        await self._commit(keep)

    async def _commit(self, work: Callable[[Transaction], T]) -> T:
        """Do `work` in a transaction, again while the database is locked."""
        for _ in range(STORE_TRIES - 1):
            with contextlib.suppress(TryAgainError):
                return self.database.transact(work)
            await asyncio.sleep(1)
        return self.database.transact(work)

    def mark_downtimes(self, window: Window | None) -> None:
        """Keep that nothing is missing of the downtimes of this time, if this user may."""
        if window is None or not self._was_read or self.missing or self.stopped_by:
            return
        if self.unsure or self.is_empty or self.log.not_asked_for:
            return
        with (
            contextlib.suppress(LacksRightsError),
            contextlib.closing(connect_operator(self.settings.database)) as database,
        ):
            database.transact(
                lambda transaction: reconciled(
                    transaction,
                    since_ms=window.since_ms,
                    until_ms=window.until_ms,
                    now_ms=self.clock.now_ms(),
                ),
            )


def _why_unsure(log: Log, window: Window) -> str | None:
    """Return why something of this time may be missing that the log did not list."""
    if log.has_moved:
        return MOVED
    if not log.is_whole:
        return "Prembly's log says the same again, or has more than it gives."
    if log.answered_at_ms is not None and log.answered_at_ms < window.until_ms:
        ahead = counted(round((window.until_ms - log.answered_at_ms) / 60_000), "minute")
        return (
            f"that time is not over by Prembly's clock: this machine's is ahead by {ahead} or more."
        )
    return None


def _ids(candidates: Sequence[Absent]) -> set[str]:
    return {name for each in candidates for name in each.ids}
