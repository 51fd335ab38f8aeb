"""What stored events say about a verification: which of them settle it, what each says beside an
answer of Prembly, as one may deny what the answer does not mention; and which events are of a
verification in Prembly's log: by their references in every spelling, by other names that Prembly's
answers gave it, and by its sessions (`found_events`, `arrival_of`)."""

import functools
import operator
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from peewee import Case, Function, fn

from premblyd.features.asking.agreement import MAX_OTHERS
from premblyd.features.asking.listing import IS_DIFFERING, IS_DISMISSED, WAS_ANSWERED
from premblyd.features.asking.standing import (
    FACTS,
    FINAL_CODES,
    FINAL_OUTCOMES,
    LATER_CODE,
    SETTLING,
    Standing,
    standing_of,
)
from premblyd.features.asking.states import AwaitedState, InquiryResult, Purpose
from premblyd.features.asking.tables import DOUBTS, Awaited, Inquiry
from premblyd.features.names.names import Spelt, look_up
from premblyd.features.names.tables import VerificationName
from premblyd.prembly import events, payload
from premblyd.prembly.facts import plain_word
from premblyd.prembly.payload import Outcome, Verdict, outcome_of, plain_id, session_reference
from premblyd.record import queries
from premblyd.store.engine import Database, Lookup, Row, Transaction
from premblyd.store.tables import Event


def settled_in_record(
    transaction: Transaction, references: Iterable[str], answer: Verdict | None = None
) -> dict[str, int]:
    """Return the first event of each of these references that settles it: that has the result, and
    is believed, or has a code of which Prembly says no more. `answer`: what Prembly says now, in
    which case it is that code."""
    wanted = list(references)
    said = answer.response_code if answer and standing_of(answer) is Standing.CODE else None
    found: dict[str, int] = {}
    for reference, event_id, standing, code, is_told in look_up(
        transaction, _SETTLING_EVENTS, wanted
    ):
        if standing == Standing.CODE and not (is_told if answer is None else code == said):
            continue
        plain = plain_id(reference)
        found[plain] = min(event_id, found.get(plain, event_id))
    return {each: found[plain_id(each)] for each in wanted if plain_id(each) in found}


def of_doubted(answer: Verdict) -> tuple[InquiryResult, str]:
    """Return as what a final answer about a doubted event is kept: as a question."""
    if answer.outcome is Outcome.VERIFIED:
        words = "Prembly says VERIFIED about an event that contradicts itself"
        return InquiryResult.CONTRADICTED, words
    return InquiryResult.CONFIRMED, "Prembly does not say VERIFIED either"


def found_others(transaction: Transaction, references: Collection[str]) -> list[Verdict]:
    """Return what the webhooks of these references say, each thing once."""
    return [_verdict(row) for row in look_up(transaction, _OTHERS, references)]


def _verdict(row: Sequence[Any]) -> Verdict:
    """Return what a row says."""
    values = dict(zip(_SAID, row, strict=True))
    values["outcome"] = Outcome(values["outcome"])
    if values["face_match"] is not None:
        values["face_match"] = bool(values["face_match"])
    return Verdict(**values)


def _was_answered(results: Collection[InquiryResult], *purposes: Purpose) -> Function:
    """Return the condition that Prembly was asked about an event for one of these purposes, and
    answered so."""
    return fn.EXISTS(
        Inquiry.select(Inquiry.id).where(
            Inquiry.event == Event.id, Inquiry.purpose.in_(purposes), Inquiry.result.in_(results)
        )
    )


# Of one that is doubted nobody needs to be told that Prembly says something else.
_IS_DENIED = _was_answered(DOUBTS, Purpose.CONFIRM) | (
    _was_answered((InquiryResult.CONTRADICTED,), Purpose.RECONCILE) & (Event.doubt == "")
)
# Not one that Prembly was asked about and does not confirm: it may be forged.
IS_BELIEVED = _was_answered((InquiryResult.CONFIRMED,), Purpose.CONFIRM) | ~_IS_DENIED
_IS_ABOUT_VERIFICATION = functools.reduce(
    operator.or_,
    (
        Event.type.startswith(pattern[:-1]) if pattern.endswith("*") else Event.type == pattern
        for pattern in events.ABOUT_VERIFICATION
    ),
)
_CODE = fn.COALESCE(Event.response_code, "")
# As standing_of.
STANDING = Case(
    None,
    [
        (~_IS_ABOUT_VERIFICATION, Standing.ELSEWHERE),
        (Event.doubt != "", Standing.DOUBTED),
        (Event.outcome.in_(FINAL_OUTCOMES), Standing.RESULT),
        ((Event.outcome == Outcome.PENDING) | (_CODE == LATER_CODE), Standing.LATER),
        (_CODE == payload.WALLET_CODE, Standing.WALLET),
        (_CODE.in_(FINAL_CODES) & Event.verification_status.is_null(), Standing.CODE),
    ],
    Standing.OPEN,
)
IS_STORED_ANSWER = Event.verified_by == events.STORED_BY
# Of an event that has a code and no word: Prembly says no more.
IS_TOLD = IS_STORED_ANSWER | _was_answered((InquiryResult.CONFIRMED,), *Purpose)
_SETTLING = Event.select(
    *(Event.reference, Event.id, STANDING, Event.response_code), Case(None, [(IS_TOLD, 1)], 0)
).where(STANDING.in_(SETTLING), IS_BELIEVED)
_SETTLING_EVENTS = Spelt.of(_SETTLING, Event)
_SAID = (*FACTS, "doubt")
_OTHER_EVENTS = (
    Event.select(*(getattr(Event, name) for name in _SAID))
    .where(~IS_STORED_ANSWER)
    .distinct()  # of rows that are alike one is enough
    .limit(MAX_OTHERS + 1)
)
_OTHERS = Spelt.of(_OTHER_EVENTS, Event)


BATCH = 100  # verifications, each of a few names: a statement of SQLite takes 32,766 values
_DIGEST = re.compile(r"session-[0-9a-f]{24}")  # as payload.session_reference makes it
_SESSION = re.compile(r"(sdk_)?session[_-].*", re.IGNORECASE | re.DOTALL)


def is_session(identifier: str) -> bool:
    """Return whether this is the id of an SDK session, which opens it."""
    return _SESSION.fullmatch(identifier) is not None and not is_digest(identifier)


def name_of(ids: Sequence[str]) -> str:
    """Return by which of its ids the record knows a verification, or would: of a session alone by a
    digest that anybody can make, as its id is a secret."""
    name = next((text for text in ids if not is_session(text)), None)
    return name or session_reference(ids[0])


def is_digest(reference: str) -> bool:
    """Return whether this stands for a session, of which no more is known."""
    return _DIGEST.fullmatch(reference) is not None


def _truth(condition: Any) -> Any:
    return Case(None, [(condition, 1)], 0)


class SeenEvent(NamedTuple):
    """An event of a verification."""

    id: int
    standing: str
    code: str | None
    outcome: str
    is_believed: int  # not one that Prembly has not confirmed: it may be forged
    is_told: int  # Prembly said the same, and no more
    is_differing: int  # Prembly said VERIFIED of what is doubted
    was_asked: int  # with an answer, whatever it was
    was_given_up: int  # Prembly said no more for so long that it is not asked any more
    is_dismissed: int  # somebody has looked at it


FOUND = (
    *(Event.id, STANDING, Event.response_code, Event.outcome),
    _truth(IS_BELIEVED),
    _truth(IS_TOLD),
    _truth(IS_DIFFERING),
    _truth(WAS_ANSWERED),
    _truth(
        fn.EXISTS(
            Awaited.select(Awaited.id).where(
                Awaited.event == Event.id,
                Awaited.state == AwaitedState.GIVEN_UP,
                Awaited.answered_at_ms.is_null(False),
            )
        )
    ),
    _truth(IS_DISMISSED),
)
_NAMED = Spelt.of(Event.select(Event.reference, *FOUND), Event)


# What can't be compared: it has neither a reference nor a session, and nobody has taken them away.
IS_NAMELESS = (
    Event.reference.is_null()
    & Event.session_id.is_null()
    & Event.removed_parts.is_null()
    & (STANDING != Standing.ELSEWHERE)
)


class Arrival(StrEnum):
    """What the record has of a verification that has ended."""

    MISSING = "missing"  # no event of it that is believed
    SETTLED = "settled"  # with how it ended
    OPEN = "open"  # an event came, and none says how it ended
    DOUBTED = "doubted"  # one says VERIFIED and what does not fit, and Prembly was not asked yet
    GIVEN_UP = "given up"  # Prembly was asked, and says no more
    DIFFERS = "differs"  # Prembly says something else


def arrival_of(found: Iterable[SeenEvent], code: str | None, word: str | None) -> Arrival:
    """Return what the record has of a verification, of which Prembly's log has this code and status
    (None: it says nothing, or there is no log). What settles it is listed in AGREEMENT: of several
    events one is enough."""
    its = [each for each in found if each.is_believed]
    results = [each for each in its if each.standing == Standing.RESULT]
    doubted = [each for each in its if each.standing == Standing.DOUBTED]
    has_verified = any(each.outcome == Outcome.VERIFIED for each in results)
    if not has_verified and any(_is_differing(each) for each in doubted):
        return Arrival.DIFFERS
    if results:
        fit = any(
            each.is_told or each.is_dismissed or not _contradicts(each, code, word)
            for each in results
        )
        return Arrival.SETTLED if fit else Arrival.DIFFERS
    if doubted:
        is_answered = any(each.was_asked or each.is_dismissed for each in doubted)
        return Arrival.SETTLED if is_answered else Arrival.DOUBTED
    codes = [each for each in its if each.standing == Standing.CODE]
    if any(each.is_told or each.code == code for each in codes):
        return Arrival.SETTLED
    if any(each.was_given_up or each.is_dismissed for each in its):
        return Arrival.GIVEN_UP
    return Arrival.OPEN if its else Arrival.MISSING


def _is_differing(each: SeenEvent) -> bool:
    return bool(each.is_differing and not each.is_dismissed)


def _contradicts(event: SeenEvent, code: str | None, word: str | None) -> bool:
    """Return whether Prembly's log says something else than an event with a result."""
    said = outcome_of(word)
    if event.outcome == Outcome.VERIFIED:
        is_no = said is Outcome.NOT_VERIFIED or plain_word(word) == "failed"
        return is_no or code in FINAL_CODES
    return said is Outcome.VERIFIED


def found_events(
    database: Database,
    verifications: Sequence[Sequence[str]],
    *,
    since_ms: int | None = None,
) -> list[dict[int, SeenEvent]]:
    """Return the events of each of these verifications, whose ids these are, by their numbers: by
    references, and where these find no result, by sessions, of events received since `since_ms`.
    Ask for few at once."""
    by_name = _events_named(database, {name for ids in verifications for name in ids})
    found = [
        {row[1]: SeenEvent(*row[1:]) for name in ids for row in by_name[name]}
        for ids in verifications
    ]
    sessions = {
        name
        for ids, its in zip(verifications, found, strict=True)
        if not any(each.is_believed and each.standing == Standing.RESULT for each in its.values())
        for name in filter(is_session, ids)
    }
    if sessions:
        since = [] if since_ms is None else [Event.received_at_ms >= since_ms]
        query = Event.select(Event.session_id, *FOUND).where(
            Event.session_id.in_(list(sessions)), *since
        )
        by_session = defaultdict[str, list[SeenEvent]](list)
        for session_id, *row in queries.tuples(database, query.distinct()):
            by_session[session_id].append(SeenEvent(*row))
        for ids, its in zip(verifications, found, strict=True):
            its |= {each.id: each for name in ids for each in by_session[name]}
    return found


def _events_named(database: Database, ids: Iterable[str]) -> dict[str, list[Row]]:
    """Return for each of `ids` the rows of _NAMED that are of it."""
    stored = {name: _spellings(name) for name in ids}

    def look(transaction: Transaction) -> dict[str, list[Row]]:
        spelt = _with_other_names(transaction, stored)
        all_spelt = sorted({spelling for each in spelt.values() for spelling in each})
        found = defaultdict[str, set[Row]](set)
        for lookup in _NAMED:
            for row in transaction.look_up(lookup, all_spelt):
                found[plain_id(str(row[0]))].add(row)
        return {
            name: [row for plain in set(map(plain_id, spellings)) for row in found.get(plain, ())]
            for name, spellings in spelt.items()
        }

    return database.look(look)


def _with_other_names(
    transaction: Transaction, spelt: Mapping[str, set[str]]
) -> dict[str, set[str]]:
    """Return how events may have these ids as their reference: also by another name that an
    answer of Prembly's gave the same verification."""
    linked = defaultdict[str, set[str]](set)
    all_spelt = sorted(set().union(*spelt.values()))
    for name, its_other in transaction.look_up(_OTHER_NAMES, all_spelt):
        linked[name].add(its_other)
    return {
        name: spellings.union(*(linked[each] for each in spellings & linked.keys()))
        for name, spellings in spelt.items()
    }


def _spellings(identifier: str) -> set[str]:
    """Return how an event may have an id as its reference: as it is, of a session its digest, and
    of a UUID in its plain spelling."""
    return {identifier, session_reference(identifier), plain_id(identifier)}


_Own, _Other = VerificationName.alias(), VerificationName.alias()
_OTHER_NAMES = Lookup(
    _Own.select(_Own.name, _Other.name).join(_Other, on=_Own.verification == _Other.verification),
    _Own.name,
)
