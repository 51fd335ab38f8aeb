"""Reconciling the record with Prembly: finds verifications of its log, or of a list, that are
missing or have no result here, asks for them, and stores the answers. Begin with `Reconciliation`.

Nothing here is the daemon's: a command does this beside it, on a connection of its own. What is
stored is on the disk one by one, so that whatever interrupts it, the next run goes on from there.
"""

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from peewee import fn

from premblyd.config.models import Config
from premblyd.features.asking import answers, awaited, questions
from premblyd.features.asking.answering import add_answer
from premblyd.features.asking.client import AnswerKind, Inquirer
from premblyd.features.asking.log import Log, Window, fetching, patiently, read_log
from premblyd.features.asking.matching import (
    BATCH,
    IS_NAMELESS,
    Arrival,
    SeenEvent,
    arrival_of,
    found_events,
    is_digest,
    is_session,
    name_of,
)
from premblyd.features.asking.questions import NewInquiry
from premblyd.features.asking.settings import PREMBLY, PremblyApi, may_ask
from premblyd.features.asking.settling import Settling, new_inquiry
from premblyd.features.asking.stored import of_doubted
from premblyd.ground.errors import LacksRightsError, PremblydError, TryAgainError
from premblyd.ground.times import DAY_MS, Clock
from premblyd.ground.words import counted
from premblyd.prembly.payload import Outcome, Standing, Verdict
from premblyd.queue import hooks
from premblyd.queue.heartbeat import reconciled
from premblyd.record import queries
from premblyd.store.connections import connect_operator
from premblyd.store.engine import Database, Transaction
from premblyd.store.states import InquiryResult, Purpose
from premblyd.store.tables import Event

MOVED = (
    "entries of Prembly's log moved between its pages while they were read, so that some may be"
    " missed. Try again later."
)
AT_ONCE = 16  # questions on their way: the rate holds them apart
STORE_TRIES = 30  # of a commit, while another program has the database locked
T = TypeVar("T")


class Fate(StrEnum):
    """What was found out about a verification without a result here."""

    MISSING = "missing"  # no event of it came, and nobody has asked for it
    LEFT_OPEN = "unsettled"  # an event came, and none says how it ended
    DOUBTED = "doubted"  # one says it twice and differently, and Prembly was not asked yet
    DIFFERS = "differs"  # Prembly says something else than the record
    STORED = "stored"
    CAME = "came"  # meanwhile, by itself
    TOLD = "told"  # Prembly says no more than the record has, or of what is doubted no VERIFIED
    NOT_FOUND = "not found"  # Prembly's log knows it, and its API does not
    UNSETTLED = "not settled"  # Prembly does not know yet either
    UNASKABLE = "can't be asked for"


LACKS = (Fate.MISSING, Fate.LEFT_OPEN, Fate.DOUBTED, Fate.DIFFERS)
_FATES = {
    Arrival.OPEN: Fate.LEFT_OPEN,
    Arrival.DOUBTED: Fate.DOUBTED,
    Arrival.DIFFERS: Fate.DIFFERS,
}


@dataclass(slots=True, kw_only=True)
class Absent:
    """A verification that Prembly, or a list, knows of, and that no event settles."""

    ids: tuple[str, ...] = field(repr=False)
    line: int | None = None  # of the list
    at_ms: int | None = None
    code: str | None = None
    status: str | None = None
    lack: Fate = Fate.MISSING  # what it was before anybody asked for it
    fate: Fate = Fate.MISSING
    error: str | None = None
    event_id: int | None = None  # as which it was stored, or came
    found: tuple[SeenEvent, ...] = ()  # the events that came of it

    @property
    def reference(self) -> str:
        return name_of(self.ids)

    @property
    def session_id(self) -> str | None:
        return next(filter(is_session, self.ids), None)

    @property
    def is_missing(self) -> bool:
        return self.fate not in (Fate.STORED, Fate.CAME, Fate.TOLD)


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
    nameless: int = 0  # events of that time that can't be compared
    too_old: int = 0  # of the absent: what named a person was removed, if it came
    given_up: int = 0  # Prembly was asked what became of them, and says no more
    absent: list[Absent] = field(default_factory=list)
    stopped_by: PremblydError | None = None
    unsure: str | None = None  # why something may be missing all the same
    is_empty: bool = False  # the log has nothing of this time: nothing can be compared
    _was_read: bool = False  # the log, and it was compared

    @property
    def missing(self) -> list[Absent]:
        return [each for each in self.absent if each.is_missing and not self._is_listed(each)]

    @property
    def listed(self) -> list[Absent]:
        """What nobody can be asked about: without a key that is no fault of the record's."""
        return [each for each in self.absent if self._is_listed(each)]

    def _is_listed(self, each: Absent) -> bool:
        return not self.can_ask and each.fate in (Fate.LEFT_OPEN, Fate.DOUBTED)

    @property
    def can_ask(self) -> bool:
        return may_ask(self.settings)

    @property
    def stored(self) -> list[Absent]:
        return [each for each in self.absent if each.fate in (Fate.STORED, Fate.CAME)]

    @property
    def left_open(self) -> list[Absent]:
        """The missing ones with events here that don't say how they ended."""
        return [each for each in self.missing if each.fate is Fate.LEFT_OPEN]

    def compare_list(self, references: Mapping[str, int]) -> None:
        """Find which references of a list have no event that settles them; each has the number of
        its line."""
        self.compared = len(references)
        candidates = [Absent(ids=(name,), line=line) for name, line in references.items()]
        self._keep_absent(candidates, final=candidates)

    async def run(self) -> None:
        """Ask what there is to ask. What stops that early is `stopped_by`."""
        if self.window is None and not self.stores:
            return
        with contextlib.closing(Inquirer(self.clock)) as inquirer:
            inquirer.configure(PREMBLY.of(self.settings))
            try:
                if self.window is not None:
                    await self._read_log(inquirer, self.window)
                if self.stores and self.absent:
                    await self._ask_for_absent(inquirer)
            except PremblydError as error:
                self.stopped_by = error

    async def _read_log(self, inquirer: Inquirer, window: Window) -> None:
        self.show("reading the log", 0, None)
        question = (PREMBLY.of(self.settings) or PremblyApi()).logs
        fetch = fetching(inquirer, question)
        log = await read_log(question, window, fetch, after_page=self._after_page)
        self.unsure = _why_unsure(log, window)
        self.is_empty = not (log.entries or log.not_expected)
        ended = [entry for entry in log.entries.values() if not entry.is_open]
        self.open = len(log.entries) - len(ended)
        self.without_time = sum(entry.at_ms is None for entry in log.entries.values())
        self.compared = len(ended)
        candidates = [
            Absent(ids=entry.ids, at_ms=entry.at_ms, code=entry.code, status=entry.status)
            for entry in ended
        ]
        final = [each for each, entry in zip(candidates, ended, strict=True) if entry.is_final]
        self._keep_absent(candidates, final=final)
        if self.stores:
            await self._note_known({name for entry in log.entries.values() for name in entry.ids})
        query = Event.select(fn.COUNT(Event.id)).where(
            Event.received_at_ms >= window.since_ms,
            Event.received_at_ms < window.until_ms,
            IS_NAMELESS,
        )
        self.nameless = queries.value(self.database, query)
        self._was_read = True

    def _after_page(self, log: Log) -> None:
        self.log = log
        self.show("reading the log", log.pages, log.total_pages)

    async def _note_known(self, names: set[str]) -> None:
        """Let the daemon ask first about what stands in Prembly's log: others may be invented."""
        row_ids = self.database.look(lambda each: awaited.waiting_unknown(each, names))
        now_ms = self.clock.now_ms()
        if row_ids:
            await self._commit(lambda each: awaited.note_known(each, row_ids, now_ms))

    def _keep_absent(self, candidates: list[Absent], final: Sequence[Absent]) -> None:
        """Keep those that the record does not have, and of these that are `final`, also those of
        which it does not have how they ended."""
        since_ms = self.window.since_ms - DAY_MS if self.window else None
        finals = set(map(id, final))
        missing, others = list[Absent](), list[Absent]()
        for start in range(0, len(candidates), BATCH):
            some = candidates[start : start + BATCH]
            ids = [each.ids for each in some]
            events = found_events(self.database, ids, since_ms=since_ms)
            for each, found in zip(some, events, strict=True):
                each.found = tuple(found.values())
                arrival = arrival_of(each.found, self._code_of(each), each.status)
                if arrival is Arrival.MISSING:
                    missing.append(each)
                elif id(each) in finals and arrival in _FATES:
                    each.lack = each.fate = _FATES[arrival]
                    others.append(each)
                self.given_up += id(each) in finals and arrival is Arrival.GIVEN_UP
        self.absent = self._expected(missing) + others

    def _code_of(self, each: Absent) -> str | None:
        """Return the code of Prembly's log, which may be that of an event without a word. Where
        there is no log, and nobody can be asked, such an event is enough."""
        if self.window is not None or self.can_ask:
            return each.code
        return next((event.code for event in each.found if event.standing == Standing.CODE), None)

    def _expected(self, absent: list[Absent]) -> list[Absent]:
        """Return those that should have an event under that name here: not erased ones, nor those
        so old that `retention` has deleted the name."""
        ids = {name for each in absent for name in each.ids}
        were_erased = self.database.look(lambda each: hooks.forgotten(each, ids))
        left = [each for each in absent if were_erased.isdisjoint(each.ids)]
        self.erased += len(absent) - len(left)
        now_ms = self.clock.now_ms()
        named_since = (since(self.settings, now_ms) for since in hooks.of_features("NAMED_SINCE"))
        since_ms = max(named_since, default=0)
        young = [each for each in left if each.at_ms is None or each.at_ms >= since_ms]
        self.too_old += len(left) - len(young)
        return young

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
        if each.fate is Fate.DIFFERS and any(event.was_asked for event in each.found):
            return  # asked once
        answer = await patiently(lambda: inquirer.ask(question), lambda answer: answer)
        is_unknown = answer.kind is AnswerKind.NOT_FOUND
        error = settling.why_not_settled(subject, question, answer)
        if is_unknown:
            error = answer.why_not_found
        said = _said(each, None if error else answer.stated.verdict)
        each.error, each.fate = error or said.error, said.fate
        if said.fate is Fate.UNSETTLED and is_unknown:
            each.fate = Fate.NOT_FOUND
        words = None if is_unknown else each.error
        asked = functools.partial(new_inquiry, Purpose.RECONCILE, question, answer)
        for event in said.events:
            await self._keep(each, asked(said.result, error=words, event_id=event.id))
        if said.fate is Fate.STORED:
            new = settling.new_answer(
                subject, question, answer, endpoint=self.endpoint, now_ms=self.clock.now_ms()
            )
            inquiry = asked(InquiryResult.SETTLED)
            added = await self._commit(lambda transaction: add_answer(transaction, new, inquiry))
            each.event_id = added.event_id
            each.fate = Fate.STORED if added.is_new else Fate.CAME
        elif not said.events:
            await self._keep(each, asked(InquiryResult.UNSETTLED, error=words))

    async def _keep(self, each: Absent, inquiry: NewInquiry) -> None:
        def keep(transaction: Transaction) -> None:
            if not hooks.forgotten(transaction, each.ids):  # meanwhile
                questions.add(transaction, inquiry)

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
            about = {"since_ms": window.since_ms, "until_ms": window.until_ms}
            now_ms = self.clock.now_ms()
            database.transact(lambda each: reconciled(each, now_ms=now_ms, **about))


def _why_unsure(log: Log, window: Window) -> str | None:
    """Return why something of this time may be missing that the log did not list."""
    if log.has_moved:
        return MOVED
    if not log.is_whole:
        return "Prembly's log repeats entries, or counts more than it lists."
    if log.answered_at_ms is not None and log.answered_at_ms < window.until_ms:
        ahead = counted(round((window.until_ms - log.answered_at_ms) / 60_000), "minute")
        return (
            f"that time has not passed by Prembly's clock: this machine's is ahead by {ahead} or"
            " more."
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What an answer says beside the events that came: of which of them it is kept as a question,
    and with which result. STORED: it is to be stored."""

    fate: Fate
    events: Sequence[SeenEvent] = ()
    result: InquiryResult = InquiryResult.UNSETTLED
    error: str | None = None


def _said(each: Absent, answer: Verdict | None) -> _Said:
    """Return what an answer says of a verification; None: nothing final."""
    believed = [event for event in each.found if event.is_believed]
    of = {
        standing: [event for event in believed if event.standing == standing]
        for standing in Standing
    }
    confirmed, contradicted = InquiryResult.CONFIRMED, InquiryResult.CONTRADICTED
    if each.fate is Fate.DOUBTED:
        its = of[Standing.DOUBTED]
        if answer is None:
            return _Said(fate=Fate.TOLD, events=its)
        result, words = of_doubted(answer)
        fate = Fate.DIFFERS if result is contradicted else Fate.TOLD
        return _Said(fate=fate, events=its, result=result, error=words)
    results, codes = of[Standing.RESULT], of[Standing.CODE]
    if answer is None:
        its = results + codes
        return _Said(fate=each.fate if results else Fate.UNSETTLED, events=its)
    if results:
        says = Outcome.NOT_VERIFIED if answer.standing is Standing.CODE else answer.outcome
        agreeing = [event for event in results if event.outcome == says]
        if agreeing:
            return _Said(fate=Fate.TOLD, events=agreeing, result=confirmed)
        return _Said(fate=Fate.STORED, events=results, result=contradicted)
    same = [event for event in codes if event.code == answer.response_code]
    if same and answer.standing is Standing.CODE:
        return _Said(fate=Fate.TOLD, events=same, result=confirmed)
    return _Said(fate=Fate.STORED)
