"""Reconciling the record with Prembly: finds verifications of its log, or of a list, that are
missing or have no result here, asks for them, and stores the answers. Begin with `Reconciliation`.

Nothing here is the daemon's: a command does this beside it, on a connection of its own. What is
stored is on the disk one by one, so that whatever interrupts it, the next run goes on from there.
"""

import asyncio
import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeVar

from peewee import fn

from premblyd.config.models import Config
from premblyd.features.asking import answers, awaited
from premblyd.features.asking.awaited import NewInquiry
from premblyd.features.asking.client import Inquirer
from premblyd.features.asking.log import Log, Window, fetching, patiently, read_log
from premblyd.features.asking.settings import PREMBLY, PremblyApi, may_ask
from premblyd.features.asking.settling import Settling, add_answer, new_inquiry
from premblyd.features.asking.standing import Standing, standing_of
from premblyd.features.asking.states import InquiryResult, Purpose
from premblyd.features.asking.stored import (
    BATCH,
    IS_NAMELESS,
    Arrival,
    SeenEvent,
    arrival_of,
    found_events,
    is_digest,
    is_session,
    name_of,
    of_doubted,
)
from premblyd.ground.errors import LacksRightsError, PremblydError
from premblyd.ground.times import DAY_MS, Clock
from premblyd.prembly.payload import Outcome, Verdict
from premblyd.queue import hooks
from premblyd.record import queries
from premblyd.store.connections import connect_operator
from premblyd.store.engine import Database, Transaction, param, update
from premblyd.store.tables import Downtime, Event

AT_ONCE = 16  # questions on their way: the rate holds them apart
T = TypeVar("T")


class Fate(StrEnum):
    """What was found out about a verification without a result here. The first four stay what they
    are while nobody has a final answer."""

    MISSING = "missing"  # no event of it came
    UNSETTLED = "unsettled"  # an event came, and none says how it ended
    DOUBTED = "doubted"  # one says it twice and differently, and Prembly was not asked yet
    DIFFERS = "differs"  # Prembly says something else than the record
    STORED = "stored"  # Prembly's answer, or what came meanwhile
    TOLD = "told"  # Prembly says no more than the record has, or of what is doubted no VERIFIED


LACKS = (Fate.MISSING, Fate.UNSETTLED, Fate.DOUBTED, Fate.DIFFERS)
_FATES = {
    Arrival.OPEN: Fate.UNSETTLED,
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
    is_final: bool = True  # by the log
    fate: Fate = Fate.MISSING
    why: str | None = None  # Prembly's answer is of no use
    found: tuple[SeenEvent, ...] = ()  # the events that came of it

    @property
    def reference(self) -> str:
        return name_of(self.ids)

    @property
    def session_id(self) -> str | None:
        return next(filter(is_session, self.ids), None)


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
    log: Log = field(default_factory=Log)  # as far as it was read
    counts: Counter[str] = field(default_factory=Counter)
    absent: list[Absent] = field(default_factory=list)
    stopped_by: PremblydError | None = None
    is_sure: bool = True  # else something may be missing all the same
    is_empty: bool = False  # the log has nothing of this time: nothing can be compared
    _was_read: bool = False  # the log, and it was compared

    @property
    def missing(self) -> list[Absent]:
        return [each for each in self.absent if each.fate in LACKS and not self._is_listed(each)]

    @property
    def listed(self) -> list[Absent]:
        """What nobody can be asked about: without a key that is no fault of the record's."""
        return [each for each in self.absent if self._is_listed(each)]

    def _is_listed(self, each: Absent) -> bool:
        return not self.can_ask and each.fate in (Fate.UNSETTLED, Fate.DOUBTED)

    @property
    def can_ask(self) -> bool:
        return may_ask(self.settings)

    def numbers(self) -> dict[str, int]:
        """Return what was counted, by the names that the JSON and the days have for it."""
        fates = Counter(each.fate for each in self.missing)
        return {
            "ended": self.counts["ended"],
            **{str(each): fates[each] for each in LACKS},
            "stored": sum(each.fate is Fate.STORED for each in self.absent),
            "given_up": self.counts["given_up"],
            "too_old": self.counts["too_old"],
            "nameless": self.counts["nameless"],
            "not_ended": self.counts["not_ended"],
            "not_expected": self.log.not_expected,
            "unreadable": self.log.without_id + self.counts["without_time"],
            "of_another_time": self.log.of_another_time,
        }

    def compare_list(self, references: Mapping[str, int]) -> None:
        """Find which references of a list have no event that settles them; each has the number of
        its line."""
        self.counts["ended"] = len(references)
        self._keep_absent([Absent(ids=(name,), line=line) for name, line in references.items()])

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
        self.log, self.is_sure = log, log.is_whole
        entries = log.entries.values()
        self.is_empty = not (log.entries or log.not_expected)
        ended = [
            Absent(
                ids=each.ids,
                at_ms=each.at_ms,
                code=each.code,
                status=each.status,
                is_final=each.is_final,
            )
            for each in entries
            if not each.is_open
        ]
        self._keep_absent(ended)
        if self.stores:
            await self._note_known({name for entry in entries for name in entry.ids})
        query = Event.select(fn.COUNT(Event.id)).where(
            Event.received_at_ms >= window.since_ms,
            Event.received_at_ms < window.until_ms,
            IS_NAMELESS,
        )
        self.counts.update(
            ended=len(ended),
            not_ended=len(log.entries) - len(ended),
            without_time=sum(entry.at_ms is None for entry in entries),
            nameless=queries.value(self.database, query),
        )
        self._was_read = True

    def _after_page(self, log: Log) -> None:
        self.log = log
        self.show("reading the log", log.pages, None)

    async def _note_known(self, names: set[str]) -> None:
        """Let the daemon ask first about what stands in Prembly's log: others may be invented."""
        row_ids = self.database.look(lambda each: awaited.waiting_unknown(each, names))
        now_ms = self.clock.now_ms()
        if row_ids:
            self.database.transact(lambda each: awaited.note_known(each, row_ids, now_ms))

    def _keep_absent(self, candidates: Sequence[Absent]) -> None:
        """Keep those that the record does not have, and of the final ones, also those of which it
        does not have how they ended."""
        since_ms = self.window.since_ms - DAY_MS if self.window else None
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
                elif each.is_final and arrival in _FATES:
                    each.fate = _FATES[arrival]
                    others.append(each)
                elif each.is_final and arrival is Arrival.GIVEN_UP:
                    self.counts["given_up"] += 1
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
        now_ms = self.clock.now_ms()
        named_since = (since(self.settings, now_ms) for since in hooks.of_features("NAMED_SINCE"))
        since_ms = max(named_since, default=0)
        young = [each for each in left if each.at_ms is None or each.at_ms >= since_ms]
        self.counts["too_old"] += len(left) - len(young)
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

        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(AT_ONCE):
                    workers.create_task(work())
        except ExceptionGroup as errors:  # of an `except*`, Python 3.11.2 would raise a group again
            raise errors.exceptions[0] from None

    async def _ask_for(self, each: Absent, inquirer: Inquirer, settling: Settling) -> None:
        subject = Verdict(reference=each.reference, session_id=each.session_id)
        question = answers.question_about(subject)
        if question is None or (is_digest(each.reference) and not each.session_id):
            each.why = "Prembly can't be asked for it"
            return
        if each.fate is Fate.DIFFERS and any(event.was_asked for event in each.found):
            return  # asked once
        answer = await patiently(lambda: inquirer.ask(question))
        useless = settling.why_not_settled(subject, question, answer)
        said = _said(each, None if useless else answer.stated.verdict)
        each.why, each.fate = useless or said.error, said.fate
        asked = functools.partial(new_inquiry, Purpose.RECONCILE, question, answer)
        for event in said.events:
            await self._keep(each, asked(said.result, error=each.why, event_id=event.id))
        if said.fate is Fate.STORED:
            new = settling.new_answer(
                subject, question, answer, endpoint=self.endpoint, now_ms=self.clock.now_ms()
            )
            inquiry = asked(InquiryResult.SETTLED)
            self.database.transact(lambda transaction: add_answer(transaction, new, inquiry))
        elif not said.events:
            await self._keep(each, asked(InquiryResult.UNSETTLED, error=useless))

    async def _keep(self, each: Absent, inquiry: NewInquiry) -> None:
        def keep(transaction: Transaction) -> None:
            if not hooks.forgotten(transaction, each.ids):  # meanwhile
                awaited.add(transaction, inquiry)

        self.database.transact(keep)

    def mark_downtimes(self) -> None:
        """Keep that nothing is missing of the downtimes of this time, if this user may."""
        window = self.window
        if window is None or not self._was_read or self.missing or self.stopped_by:
            return
        if not self.is_sure or self.is_empty or self.log.of_another_time:
            return
        with (
            contextlib.suppress(LacksRightsError),
            contextlib.closing(connect_operator(self.settings.database)) as database,
        ):
            about = {"since_ms": window.since_ms, "until_ms": window.until_ms}
            now_ms = self.clock.now_ms()
            database.transact(lambda each: reconciled(each, now_ms=now_ms, **about))


def reconciled(transaction: Transaction, *, since_ms: int, until_ms: int, now_ms: int) -> int:
    """Keep that nothing is missing of what Prembly knows of this time. Return how many downtimes
    that mends."""
    return transaction.change(_MEND, since_ms=since_ms, until_ms=until_ms, reconciled_at_ms=now_ms)


_MEND = update(
    Downtime,
    "reconciled_at_ms",
    where=Downtime.reconciled_at_ms.is_null()
    & (Downtime.from_ms >= param("since_ms"))
    & (Downtime.until_ms <= param("until_ms")),
)


class _Said(NamedTuple):
    """What an answer says beside the events that came: of which of them it is kept as a question,
    and with which result. STORED: it is to be stored."""

    fate: Fate
    events: Sequence[SeenEvent] = ()
    result: InquiryResult = InquiryResult.UNSETTLED
    error: str | None = None


def _said(each: Absent, answer: Verdict | None) -> _Said:
    """Return what an answer says of a verification; None: nothing final."""
    results, codes, doubted = (
        [event for event in each.found if event.is_believed and event.standing == standing]
        for standing in (Standing.RESULT, Standing.CODE, Standing.DOUBTED)
    )
    if each.fate is Fate.DOUBTED:
        if answer is None:
            return _Said(Fate.TOLD, doubted)
        result, words = of_doubted(answer)
        is_other = result is InquiryResult.CONTRADICTED
        return _Said(Fate.DIFFERS if is_other else Fate.TOLD, doubted, result, words)
    if answer is None:
        return _Said(each.fate, results + codes)
    if results:
        says = Outcome.NOT_VERIFIED if standing_of(answer) is Standing.CODE else answer.outcome
        agreeing = [event for event in results if event.outcome == says]
        if agreeing:
            return _Said(Fate.TOLD, agreeing, InquiryResult.CONFIRMED)
        return _Said(Fate.STORED, results, InquiryResult.CONTRADICTED)
    same = [event for event in codes if event.code == answer.response_code]
    if same and standing_of(answer) is Standing.CODE:
        return _Said(Fate.TOLD, same, InquiryResult.CONFIRMED)
    return _Said(Fate.STORED)
