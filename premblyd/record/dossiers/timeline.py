"""What happened around a person, as sentences that the person understands, each with its time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from premblyd import times
from premblyd.model.states import State
from premblyd.prembly import events
from premblyd.prembly.payload import CODES
from premblyd.record import queries
from premblyd.record.dossiers.dossier import Chapter, Dossier
from premblyd.record.operating import EXPORT
from premblyd.words import counted

OUTCOMES = {
    "verified": "It says that the person was verified.",
    "not_verified": "It says that the person was not verified.",
    "pending": "It says that the check is not finished.",
}
DELIVERIES = {
    State.PENDING: "is to run",
    State.RUNNING: "runs",
    State.SUCCEEDED: "is done",
    State.DEAD: "was given up, as it failed",
    State.CANCELLED: "was cancelled",
    State.SKIPPED: "was not needed, as it had been done before",
}
_ATTEMPTS = {
    "succeeded": "ran, and succeeded",
    "failed": "ran, and failed",
    "timed_out": "ran, and was stopped, as it took too long",
    "interrupted": "was begun, and did not run to its end",
    None: "was begun",
}
_PURPOSES = {
    "confirm": "whether the message is true",
    "pending": "what became of the check",
    "reconcile": "for a message that had not come",
}
_RESULTS = {
    "confirmed": "it said the same",
    "contradicted": "it said something else",
    "settled": "it had finished the check",
    "unsettled": "it had not finished the check",
    "not_found": "it knew no such check",
    "refused": "it refused to answer",
    "unavailable": "it gave no answer that could be used",
}
_AWAITED = {
    "waiting": "Prembly is asked until it is.",
    "settled": "It was finished later.",
    "given_up": "It was given up.",
    "erased": "Nobody asks any more, as it was erased.",
}
_OPERATORS = {
    "reveal": "looked at the personal data",
    "export": "took out all that is held about the person",
    "replay": "had an action run again",
    "cancel": "cancelled an action",
    "erase": "erased the personal data",
}


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """Something that happened. `event_id`: the message that it belongs to, or 0; `order`: its place
    among what happened to that at the same time; `row_id`: the row that says so, of the table that
    `what` names."""

    at_ms: int
    event_id: int
    order: int
    what: str
    row_id: int
    text: str

    def as_json(self) -> dict[str, Any]:
        return {
            "at_ms": self.at_ms,
            "what": self.what,
            "event_id": self.event_id or None,
            "id": self.row_id,
            "text": self.text,
        }


def of_chapter(chapter: Chapter) -> Iterator[Moment]:
    """Yield what happened with a message."""
    for order, (at_ms, what, row_id, text) in enumerate(_of_chapter(chapter)):
        if (time := queries.time(at_ms)) is not None:
            yield Moment(time, chapter.event.id, order, what, row_id, text)
    for row in chapter.operators:
        if row.action == EXPORT and (time := queries.time(row.at_ms)) is not None:
            # The same of all messages that were taken out together, so that it is told once.
            yield Moment(time, 0, 0, "operator_action", row.part_of_id or row.id, _did(row))


def of_person(dossier: Dossier) -> Iterator[Moment]:
    """Yield what happened that belongs to no message."""
    for order, (at_ms, what, row_id, text) in enumerate(_of_person(dossier)):
        if (time := queries.time(at_ms)) is not None:
            yield Moment(time, 0, order, what, row_id, text)


def _of_chapter(chapter: Chapter) -> Iterator[tuple[Any, str, int, str]]:
    event = chapter.event
    yield event.received_at_ms, "event", event.id, _came(event)
    if event.duplicate_count:
        times_again = counted(event.duplicate_count, "time")
        again = f"The same message came again, for the last time: {times_again} more in all."
        yield event.last_duplicate_at_ms, "duplicate", event.id, again
    for delivery in chapter.deliveries:
        name = f"The action “{delivery.action}”"
        for attempt in chapter.attempts[delivery.id]:
            ran = _ATTEMPTS.get(attempt.outcome, f"ended as {attempt.outcome}")
            yield attempt.started_at_ms, "attempt", attempt.id, f"{name} {ran}."
        stands = DELIVERIES.get(delivery.state, f"is {delivery.state}")
        at_ms = delivery.finished_at_ms or delivery.created_at_ms
        yield at_ms, "delivery", delivery.id, f"{name} {stands}."
    for inquiry in chapter.inquiries:
        yield inquiry.at_ms, "inquiry", inquiry.id, _asked(inquiry)
    for each in chapter.awaited:
        became = _AWAITED.get(each.state, f"It is {each.state}.")
        yield each.created_at_ms, "awaited", each.id, f"The check was not finished. {became}"
    for row in chapter.operators:
        if row.action != EXPORT:
            yield row.at_ms, "operator_action", row.id, _did(row)


def _of_person(dossier: Dossier) -> Iterator[tuple[Any, str, int, str]]:
    for inquiry in dossier.inquiries:
        yield inquiry.at_ms, "inquiry", inquiry.id, _asked(inquiry)
    for row in dossier.holds:
        because = f", because: {row.reason}" if row.reason else ""
        until = f" before {times.for_people(row.until_ms)}" if row.until_ms else ""
        text = f"{row.actor} put a hold on it: nothing of it is removed{until}{because}."
        yield row.at_ms, "hold", row.id, text
        if row.ended_at_ms:
            yield row.ended_at_ms, "hold", row.id, f"{row.ended_by} ended a hold on it."
    for closing in dossier.closings:
        text = f"{closing.actor} noted that the relationship with the person ends here."
        yield closing.at_ms, "closing", closing.id, text
    for row in dossier.erasures:
        because = f", because: {row.reason}" if row.reason else ""
        text = f"{row.actor} erased {counted(row.events, 'message')} on request{because}."
        yield row.at_ms, "erasure", row.id, text
    for row in dossier.exports:
        text = f"{row.actor} took out the data of many people, perhaps of this one ({row.note})."
        yield row.at_ms, "operator_action", row.id, text


def _came(event: Any) -> str:
    is_answer = event.verified_by == events.STORED_BY
    came = "Prembly was asked, and its answer was stored." if is_answer else "A message came."
    meaning = None if is_answer else events.MEANINGS.get(event.type or "")
    about = f" It means that {meaning}." if meaning and event.type != events.UNKNOWN else ""
    code = f" Its code is {event.response_code}" if event.response_code else ""
    known = f" ({CODES[event.response_code]})" if event.response_code in CODES else ""
    parts = (came, about, f" {OUTCOMES.get(event.outcome, '')}", f"{code}{known}." if code else "")
    return "".join(part for part in parts if part.strip())


def _did(row: Any) -> str:
    did = _OPERATORS.get(row.action, f"did “{row.action}”")
    return f"{row.actor} {did}."


def _asked(inquiry: Any) -> str:
    purpose = _PURPOSES.get(inquiry.purpose, inquiry.purpose)
    result = _RESULTS.get(inquiry.result, inquiry.result)
    return f"Prembly was asked {purpose}: {result}."
