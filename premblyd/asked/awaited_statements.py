"""The statements of what is awaited, each built once."""

import functools
import operator

from peewee import JOIN, Function, Tuple, fn

from premblyd.asked.naming import Spelt
from premblyd.asked.questions import DOUBTS
from premblyd.model.statements import BulkInsert, Lookup, Statement, param, update
from premblyd.model.states import AwaitedState
from premblyd.model.tables import (
    IS_DOUBTED,
    MAY_BE_UNSETTLED,
    Awaited,
    Event,
    Inquiry,
    InquiryResult,
    Purpose,
)
from premblyd.prembly import events, payload
from premblyd.prembly.payload import Outcome

MAX_MISSED = 500  # events that one transaction begins to await


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
_IS_UNSETTLED = (
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
_IS_WAITING = Awaited.due_at_ms.is_null(False)
_IS_OPEN = Awaited.state != AwaitedState.SETTLED  # waiting, or given up
INSERT = BulkInsert(
    Awaited,
    *("event_id", "endpoint", "reference", "reference_key", "created_at_ms", "due_at_ms", "state"),
)
_WAITING = Awaited.select(Awaited.reference).where(_IS_WAITING)
WAITING_FOR = Spelt(
    Lookup(_WAITING, Awaited.reference), Lookup(_WAITING.clone(), Awaited.reference_key)
)
_OPEN = Awaited.select(Awaited.id, Awaited.reference, Awaited.event).where(_IS_OPEN)
OPEN_FOR = Spelt(Lookup(_OPEN, Awaited.reference), Lookup(_OPEN.clone(), Awaited.reference_key))
_SETTLED = (  # of several, the first in a dict of them
    Event.select(Event.reference, Event.id)
    .where(_IS_SETTLED, IS_NOT_DOUBTED)
    .order_by(Event.id.desc())
)
SETTLED_EVENTS = Spelt(
    Lookup(_SETTLED, Event.reference), Lookup(_SETTLED.clone(), Event.reference_key)
)
END = update(
    Awaited,
    "state",
    "due_at_ms",
    "finished_at_ms",
    "settled_by_id",
    "last_error",
    where=(Awaited.id == param("id")) & _IS_OPEN,
)
ASKED = Statement(
    Awaited.update(
        state=param("state"),
        due_at_ms=param("due_at_ms")
        + fn.COALESCE(Awaited.created_at_ms - param("created_at_ms"), 0),
        finished_at_ms=param("finished_at_ms"),
        last_error=param("last_error"),
        ask_count=Awaited.ask_count + 1,
    ).where(
        Awaited.id == param("id"),
        Awaited.reference == fn.COALESCE(param("reference"), Awaited.reference),
        _IS_WAITING,
    )
)
DUE_FIELDS = (
    "id",
    "event_id",
    "endpoint",
    "reference",
    "created_at_ms",
    "due_at_ms",
    "ask_count",
    "session_id",
)
DUE = Statement(
    Awaited.select(
        Awaited.id,
        Awaited.event,
        Awaited.endpoint,
        Awaited.reference,
        Awaited.created_at_ms,
        Awaited.due_at_ms,
        Awaited.ask_count,
        Event.session_id,
        Event.id,
    )
    .join(Event, JOIN.LEFT_OUTER)  # somebody may have deleted the event
    .where(Awaited.due_at_ms <= param("now_ms"))
    .order_by(Awaited.due_at_ms)
    .limit(param("limit"))
)
NEXT_DUE = Statement(
    Awaited.select(fn.MIN(Awaited.due_at_ms)).where(Awaited.due_at_ms > param("now_ms"))
)
MISSED = Statement(
    Event.select(Event.received_at_ms, Event.id, Event.endpoint, Event.reference)
    .where(
        _IS_UNSETTLED,
        Event.received_at_ms >= param("since_ms"),
        Tuple(Event.received_at_ms, Event.id) > Tuple(param("after_ms"), param("after_id")),
        ~fn.EXISTS(
            Awaited.select(Awaited.id).where(
                Awaited.reference == Event.reference,
                _IS_WAITING | (Awaited.finished_at_ms >= Event.received_at_ms),
            )
        ),
    )
    .order_by(Event.received_at_ms, Event.id)
    .limit(MAX_MISSED)
)
SHIFT = Statement(  # of the beginning too, from which the questions and `give_up` count
    Awaited.update(
        due_at_ms=Awaited.due_at_ms + param("by_ms"),
        created_at_ms=Awaited.created_at_ms + param("by_ms"),
    ).where(_IS_WAITING, Awaited.created_at_ms < param("before_ms"))
)
