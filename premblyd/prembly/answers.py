"""What Prembly's API answers when it is asked about a verification, and whether an event says the
same.

Sources: docs.prembly.com, "verification status check" (the envelope; what is in its `data` is not
documented), "get verification status" (an older page, which shows it), "SDK back-end webhooks" (a
session's answer). So the verdict is looked for wherever one of these has it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from premblyd.expressions import Expression
from premblyd.prembly import bodies, events, payload, settling
from premblyd.prembly.payload import Outcome, Verdict
from premblyd.prembly.places import FieldName
from premblyd.privacy.identifiers import safe_code

# What Prembly's ids are made of; no URL can be led elsewhere by it.
_ASKABLE = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._:~-]{0,199}")
NOTHING_TO_ASK_BY = (
    "can't be confirmed: this event has no reference or session that Prembly can be asked for"
)
_NOT_FOUND_CODE = "01"
_VERDICT_KEYS = ("verification", "response_code", "verification_status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which verification is asked for. A session's id is a secret, so it is no `reference`."""

    identifier: str = field(repr=False)
    reference: str | None  # None: the identifier is a session's

    @property
    def path_segment(self) -> str:
        """The identifier as it stands in a URL: one segment of its path, whatever is in it."""
        return quote(self.identifier, safe="")


class Match(StrEnum):
    """Whether an answer says what an event says."""

    SAME = "same"
    OTHER = "other"
    OPEN = "open"  # Prembly does not know yet


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found, in words that quote neither."""

    match: Match
    words: str = ""


def question_about(verdict: Verdict) -> Question | None:
    """Return by what Prembly can be asked about an event: its reference, or else its session; None
    when it has neither, none that can be an id of Prembly's, or is about no verification."""
    if not events.is_about_verification(verdict.type):
        return None
    reference, session_id = verdict.reference, verdict.session_id
    if reference and is_askable(reference) and not _stands_for_session(verdict):
        return Question(identifier=reference, reference=reference)
    if session_id and is_askable(session_id):
        return Question(identifier=session_id, reference=None)
    return None


def _stands_for_session(verdict: Verdict) -> bool:
    """Return whether an event's reference is none of its own, but made of its session's id."""
    session_id = verdict.session_id
    return bool(session_id) and verdict.reference == payload.session_reference(session_id or "")


def is_askable(identifier: str) -> bool:
    """Return whether `identifier` can be an id of Prembly's. Whoever knows the public key can send
    any text as a reference, and it is to be a part of a URL."""
    return _ASKABLE.fullmatch(identifier) is not None


def read(body: bytes, fields: Mapping[FieldName, Expression] | None = None) -> Verdict | None:
    """Return what an answer says of a verification; None when it is no JSON object. `fields` says
    where a field is found in the answer, if not where Prembly's pages say."""
    document = bodies.parse(body)
    if document is None:
        return None
    verdict = replace(payload.recognise(_verification(document)), type=events.STATUS)
    if not fields:
        return verdict
    placed = payload.recognise(document, fields)
    changes: dict[str, Any] = {name: getattr(placed, name) for name in fields}
    if "verification_status" in fields:
        changes["outcome"] = placed.outcome
    return replace(verdict, **changes)


def is_unknown_to_prembly(answer: Verdict) -> bool:
    """Return whether an answer says that there is no such verification: code 01, and no more.
    (Code 01 of a verification is about the person, and names the verification.)"""
    says_more = answer.reference or answer.session_id or answer.verification_status
    return answer.response_code == _NOT_FOUND_CODE and not says_more


def compare(event: Verdict, answer: Verdict, question: Question) -> Comparison:
    """Return whether the `answer` to `question` says what the event says: the same reference (or
    session) and outcome, and no other code, user or face match."""
    if about := _other_verification(question, event, answer):
        return Comparison(Match.OTHER, about)
    if answer.outcome is not event.outcome:
        if settling.is_unsettled(answer):
            return Comparison(Match.OPEN, "Prembly does not know yet either")
        if answer.outcome is Outcome.UNKNOWN:
            return Comparison(Match.OPEN, _NO_VERDICT)
        words = f"Prembly's answer says outcome {answer.outcome}, the event {event.outcome}"
        return Comparison(Match.OTHER, words)
    if event.outcome is Outcome.UNKNOWN and not _says_as_much(answer, event):
        return Comparison(Match.OPEN, _NO_VERDICT)
    for name in ("response_code", "user_ref", "face_match"):
        there, here = getattr(answer, name), getattr(event, name)
        if there is not None and here is not None and there != here:
            return Comparison(Match.OTHER, _difference(name, there, here))
    return Comparison(Match.SAME)


_NO_VERDICT = (
    "Prembly's answer has no verification status where it is looked for"
    " (`prembly: {status: {fields: …}}` can say where)"
)


def _says_as_much(answer: Verdict, event: Verdict) -> bool:
    """Return whether an answer without an outcome says anything that confirms an event without one:
    a code, or which verification it is about when the event has no code either."""
    if event.response_code is not None or answer.response_code is not None:
        return answer.response_code is not None
    return bool(answer.reference or answer.session_id)


def _verification(document: dict[str, Any]) -> dict[str, Any]:
    """Return the part of an answer that is about the verification, without the envelope: its
    `status: true` and `message` are about the request."""
    response = document.get("response")
    if isinstance(response, dict):
        return response
    data = document.get("data")
    if isinstance(data, list) and len(data) == 1:
        (data,) = data
    if isinstance(data, dict):
        session = data.get("session")
        if isinstance(session, dict):
            return session
        if not any(document.get(name) for name in _VERDICT_KEYS):
            return data
    return document


def _other_verification(question: Question, event: Verdict, answer: Verdict) -> str | None:
    """Return in words that an answer is not about what was asked for; None if it is."""
    if event.session_id and answer.session_id and event.session_id != answer.session_id:
        return "Prembly's answer is about another session"
    reference = question.reference
    if reference is None:  # whoever knows a session's id has no other one's
        # But he can put any reference beside it, such as another's with a space that hooks strip.
        if event.reference is None or _stands_for_session(event):
            return None
        reference = event.reference
    if answer.reference is None:
        return (
            "Prembly's answer names no reference where it is looked for"
            " (`prembly: {status: {fields: …}}` can say where)"
        )
    if payload.same_id(answer.reference) != payload.same_id(reference):
        return "Prembly's answer is about another reference"
    return None


def _difference(name: str, there: object, here: object) -> str:
    if name == "response_code":
        return (
            f"Prembly's answer says code {safe_code(str(there))}, the event {safe_code(str(here))}"
        )
    if name == "user_ref":
        return "Prembly's answer names another user_ref than the event"
    return f"Prembly's answer says face_match {str(there).lower()}, the event {str(here).lower()}"
