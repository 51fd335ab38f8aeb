"""What the stored events say of a verification: whether they settle it or leave it open, and what
each says beside an answer of Prembly's, since what that is silent about one may say no to."""

import functools
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from peewee import Case, Function, fn

from premblyd.engines.engine import Statement, Transaction, param
from premblyd.model.tables import (
    IS_DOUBTED,
    MAY_BE_UNSETTLED,
    Event,
    Inquiry,
    InquiryResult,
    Purpose,
)
from premblyd.prembly import events, payload
from premblyd.prembly.agreement import MAX_OTHERS
from premblyd.prembly.answers import FACTS
from premblyd.prembly.facts import Doubt
from premblyd.prembly.payload import Outcome, Verdict, plain_id
from premblyd.verifications.questions import DOUBTS
from premblyd.verifications.spellings import Spelt, look_up

MOST_READ_BYTES = 16 << 20  # of their bodies: 0.1 s, for which webhooks wait
Read = Callable[[str, str, bytes], Verdict]  # by an event's endpoint, its `verified_by`, its body


def settled_in_record(transaction: Transaction, references: Iterable[str]) -> dict[str, int]:
    """Return the first settled event of each of these references that has one. Not those that
    Prembly was asked to confirm and has not."""
    wanted = list(references)
    found: dict[str, int] = {}
    for reference, event_id in look_up(transaction, _SETTLED_EVENTS, wanted):
        plain = plain_id(reference)
        found[plain] = min(event_id, found.get(plain, event_id))
    return {each: found[plain_id(each)] for each in wanted if plain_id(each) in found}


def found_others(
    transaction: Transaction, references: Collection[str], read: Read
) -> list[Verdict]:
    """Return what the webhooks of these references say, each thing once. Those that a premblyd
    stored which did not look for a no (`doubt` is NULL) say what `read` finds in their bodies: one
    at a time, since each may have 16 MiB. What is beyond MOST_READ_BYTES may say anything, and so
    may what has no body any more."""
    found = []
    left = MOST_READ_BYTES
    for *said, unread_id in look_up(transaction, _OTHERS, references):
        verdict = _verdict(said)
        if unread_id is not None:
            row = transaction.row(_UNREAD, id=unread_id) if left > 0 else None
            if row and isinstance(row[-1], bytes):
                left -= len(row[-1])
                verdict = read(*row)
            else:
                verdict = replace(verdict, outcome=Outcome.UNKNOWN, doubt=",".join(Doubt))
        found.append(verdict)
    return found


def _verdict(row: Sequence[Any]) -> Verdict:
    """Return what a row says, as far as nobody has changed it by hand."""
    values = dict(zip(_SAID, row, strict=True))
    outcome = values["outcome"]
    values["outcome"] = Outcome(outcome) if outcome in list(Outcome) else Outcome.UNKNOWN
    if values["face_match"] is not None:
        values["face_match"] = bool(values["face_match"])
    values["doubt"] = values["doubt"] or ""
    return Verdict(**values)


def _was_answered(*results: InquiryResult) -> Function:
    """Return the condition that Prembly was asked to confirm an event, and answered so."""
    return fn.EXISTS(
        Inquiry.select(Inquiry.id).where(
            Inquiry.event == Event.id,
            Inquiry.purpose == Purpose.CONFIRM,
            Inquiry.result.in_(results),
        )
    )


# Not one that Prembly was asked to confirm and has not: it may be forged.
IS_NOT_DOUBTED = _was_answered(InquiryResult.CONFIRMED) | ~_was_answered(*DOUBTS)
# The same as Verdict.is_settled and is_unsettled; a test holds that they agree. NULL: of an event
# that was stored before types were told.
_IS_ABOUT_VERIFICATION = functools.reduce(
    operator.or_,
    (
        Event.type.startswith(pattern[:-1]) if pattern.endswith("*") else Event.type == pattern
        for pattern in events.ABOUT_VERIFICATION
    ),
    Event.type.is_null(),
)
_IS_SETTLED = _IS_ABOUT_VERIFICATION & (
    IS_DOUBTED
    | Event.outcome.in_(payload.FINAL_OUTCOMES)
    | (
        (Event.outcome == Outcome.UNKNOWN)
        & Event.response_code.not_in(payload.OPEN_CODES)  # NULL is not
        & ((Event.response_code != payload.DATA_CODE) | Event.verification_status.is_null())
    )
)
IS_UNSETTLED = (
    MAY_BE_UNSETTLED
    & Event.outcome.not_in(payload.FINAL_OUTCOMES)
    & Event.reference.is_null(False)
    & (fn.COALESCE(Event.doubt, "") == "")
    & _IS_ABOUT_VERIFICATION
)
# Events that say nothing of how a verification ended: Prembly could not yet, or they are about
# something else, as a workflow's run is.
LEAVES_OPEN = ~_IS_ABOUT_VERIFICATION | (
    (fn.COALESCE(Event.doubt, "") == "")
    & (
        (Event.outcome == Outcome.PENDING)
        | (
            (Event.outcome == Outcome.UNKNOWN)
            & fn.COALESCE(Event.response_code, "").in_(payload.OPEN_CODES)
        )
    )
)
_SETTLED = (  # of several, the first in a dict of them
    Event.select(Event.reference, Event.id)
    .where(_IS_SETTLED, IS_NOT_DOUBTED)
    .order_by(Event.id.desc())
)
_SETTLED_EVENTS = Spelt.of(_SETTLED, Event)
_SAID = (*FACTS, "doubt")
_UNREAD_ID = Case(None, [(Event.doubt.is_null(), Event.id)])
_IS_OTHER = Event.verified_by != events.STORED_BY
_OTHER_EVENTS = (
    Event.select(
        *(getattr(Event, name) for name in _SAID),
        _UNREAD_ID,
    )
    .where(_IS_OTHER)
    .distinct()  # of rows that are alike one is enough
    .limit(MAX_OTHERS + 1)
)
_UNREAD = Statement(
    Event.select(Event.endpoint, Event.verified_by, Event.body).where(
        Event.id == param("id"), Event.removed_parts.is_null()
    )
)
_OTHERS = Spelt.of(_OTHER_EVENTS, Event)
