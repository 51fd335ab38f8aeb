"""What the other events of a verification say, when Prembly's answer is for actions: what that is
silent about, one of them may say no to."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from peewee import Case

from premblyd.asked.naming import Spelt, look_up
from premblyd.engines.engine import Transaction
from premblyd.model.statements import Lookup, Statement, param
from premblyd.model.tables import Event
from premblyd.prembly import events
from premblyd.prembly.agreement import MAX_OTHERS
from premblyd.prembly.answers import FACTS
from premblyd.prembly.facts import Doubt
from premblyd.prembly.payload import Outcome, Verdict

MOST_READ_BYTES = 16 << 20  # of their bodies: 0.1 s, for which webhooks wait
Read = Callable[[str, str, bytes], Verdict]  # by an event's endpoint, its `verified_by`, its body


def found_others(
    transaction: Transaction, references: Collection[str], read: Read
) -> list[Verdict]:
    """Return what the webhooks of these references say, each thing once. Those that a premblyd
    stored which did not look for a no (`doubt` is NULL) say what `read` finds in their bodies: one
    at a time, since each may have 16 MiB. What is beyond MOST_READ_BYTES may say anything."""
    found = []
    left = MOST_READ_BYTES
    for *said, unread_id in look_up(transaction, _OTHERS, references):
        verdict = _verdict(said)
        if unread_id is not None and left > 0:
            row = transaction.row(_UNREAD, id=unread_id)
            if row and isinstance(row[-1], bytes):
                left -= len(row[-1])
                verdict = read(*row)
        elif unread_id is not None:
            verdict = replace(verdict, outcome=_NO_OUTCOME, doubt=",".join(Doubt))
        found.append(verdict)
    return found


def _verdict(row: Sequence[Any]) -> Verdict:
    """Return what a row says, as far as nobody has changed it by hand."""
    values = dict(zip(_SAID, row, strict=True))
    values["outcome"] = next((word for word in Outcome if word == values["outcome"]), _NO_OUTCOME)
    if values["face_match"] is not None:
        values["face_match"] = bool(values["face_match"])
    values["doubt"] = values["doubt"] or ""
    return Verdict(**values)


_NO_OUTCOME = Outcome.UNKNOWN
_SAID = (*FACTS, "doubt")
_OTHER_EVENTS = (
    Event.select(
        *(getattr(Event, name) for name in _SAID), Case(None, [(Event.doubt.is_null(), Event.id)])
    )
    .where(Event.verified_by != events.STORED_BY)
    .distinct()
    .limit(MAX_OTHERS + 1)
)
_UNREAD = Statement(
    Event.select(Event.endpoint, Event.verified_by, Event.body).where(Event.id == param("id"))
)
_OTHERS = Spelt(
    Lookup(_OTHER_EVENTS, Event.reference), Lookup(_OTHER_EVENTS.clone(), Event.reference_key)
)
