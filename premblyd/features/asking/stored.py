"""What stored events say about a verification: which of them settle it, and what each says beside
an answer of Prembly, as one may deny what the answer does not mention."""

import functools
import operator
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from peewee import SQL, Case, Function, fn

from premblyd.features.asking.agreement import MAX_OTHERS
from premblyd.features.asking.questions import DOUBTS
from premblyd.features.asking.tables import Inquiry
from premblyd.prembly import events, payload
from premblyd.prembly.payload import FACTS, SETTLING, Outcome, Standing, Verdict, plain_id
from premblyd.queue.names import Spelt, look_up
from premblyd.store.engine import Transaction
from premblyd.store.states import InquiryResult, Purpose
from premblyd.store.tables import Event


def settled_in_record(
    transaction: Transaction, references: Iterable[str], answer: Verdict | None = None
) -> dict[str, int]:
    """Return the first event of each of these references that settles it: that has the result, and
    is believed, or has a code of which Prembly says no more. `answer`: what Prembly says now, in
    which case it is that code."""
    wanted = list(references)
    said = answer.response_code if answer and answer.standing is Standing.CODE else None
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
# As Verdict.standing.
STANDING = Case(
    None,
    [
        (~_IS_ABOUT_VERIFICATION, Standing.ELSEWHERE),
        (Event.doubt != "", Standing.DOUBTED),
        (Event.outcome.in_(payload.FINAL_OUTCOMES), Standing.RESULT),
        ((Event.outcome == Outcome.PENDING) | (_CODE == payload.LATER_CODE), Standing.LATER),
        (_CODE == payload.WALLET_CODE, Standing.WALLET),
        (_CODE.in_(payload.FINAL_CODES) & Event.verification_status.is_null(), Standing.CODE),
    ],
    Standing.OPEN,
)
IS_STORED_ANSWER = Event.verified_by == events.STORED_BY
# Of an event that has a code and no word: Prembly says no more.
IS_TOLD = IS_STORED_ANSWER | _was_answered((InquiryResult.CONFIRMED,), *Purpose)
# What Prembly is asked about: it is open, or told in part. Few events have no result; an index has
# these. By COALESCE, SQLite takes it, not those of the columns, which lead to all events ever.
IS_AWAITED = (
    fn.COALESCE(Event.outcome, SQL("''")).not_in([SQL("'verified'"), SQL("'not_verified'")])
    & ~IS_STORED_ANSWER
    & Event.reference.is_null(False)
    & STANDING.not_in([Standing.RESULT, Standing.ELSEWHERE])
)
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
