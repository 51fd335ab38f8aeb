"""What a webhook's body says: the verdict fields, for every shape Prembly has sent.

Sources: docs.prembly.com (webhooks; response codes and verification status) and what public
consumers of both Prembly and Identitypass read. No field is ever required.
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from premblyd import jsontext
from premblyd.expressions import Budget, EvaluationError, Expression
from premblyd.prembly import bodies, events, facts
from premblyd.prembly.places import FIELDS, FieldName, Places
from premblyd.privacy.fields import SECRET_VERDICT_FIELDS

MAX_TEXT_BYTES = 4096  # a longer text is no identifier or status; the body still holds it
MAX_DETAIL_CHARS = 500


class Outcome(StrEnum):
    """What Prembly concluded about the person."""

    VERIFIED = "verified"
    NOT_VERIFIED = "not_verified"  # performed, and not valid
    PENDING = "pending"  # Prembly failed internally and will try again
    UNKNOWN = "unknown"  # nothing in the body says


class Kind(StrEnum):
    """Which product the body comes from."""

    API = "api"
    SDK = "sdk"
    RAW = "raw"  # no JSON object


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict fields of one webhook; None where the body says nothing."""

    kind: Kind = Kind.RAW
    type: str = events.UNKNOWN
    response_code: str | None = None
    status: str | None = None
    detail: str | None = None
    verification_status: str | None = None
    outcome: Outcome = Outcome.UNKNOWN
    reference: str | None = None
    user_ref: str | None = None
    session_id: str | None = None
    face_match: bool | None = None
    face_confidence: float | None = None
    risk_level: str | None = None
    risk_score: float | None = None
    # Why a VERIFIED is none: words of facts.Doubt, with commas between. None: not looked for yet.
    doubt: str | None = ""


Failed = Callable[[FieldName, str], None]


def read(body: bytes, overrides: Mapping[FieldName, Expression] | None = None) -> Verdict:
    """Return what `body` says. Never raise, whatever the bytes.

    `overrides` replaces where a field is found; an expression that fails finds nothing.
    """
    return recognise(bodies.parse(body), overrides)


def recognise(
    document: dict[str, Any] | None,
    overrides: Mapping[FieldName, Expression] | None = None,
    *,
    is_trial: bool = False,
    failed: Failed = lambda *_: None,
) -> Verdict:
    """Return what a parsed body says; None stands for a body that is no JSON object. `failed` is
    told which of the overrides failed. Raise TrialTooLongError when they take more work than a
    trial may."""
    if document is None:
        return Verdict()
    placed = _placed(document, overrides, is_trial=is_trial, failed=failed) if overrides else {}
    found: dict[FieldName, Any] = {name: at.find(document) for name, at in _FOUND.items()}
    found.update(placed)
    stated = facts.Facts(document, placed, overrides or {})
    if found["verification_status"] is True:  # it is silent: the next one that speaks counts
        found["verification_status"] = next(iter(stated.words), True)
    type_ = events.type_of(document)
    outcome, doubt = _conclude(document, type_, found["verification_status"], stated)
    reference = text_of(found["reference"])
    session_id = text_of(found["session_id"])
    if reference is None and "reference" not in (overrides or ()):
        reference = _other_reference(document, type_, session_id)
    return Verdict(
        kind=_kind(document),
        type=type_,
        response_code=_code(found["response_code"]),
        status=text_of(found["status"]),
        detail=_detail(found["detail"]),
        verification_status=text_of(found["verification_status"]),
        outcome=outcome,
        reference=reference,
        user_ref=text_of(found["user_ref"]),
        session_id=session_id,
        face_match=stated.face_match,
        face_confidence=_number(found["face_confidence"]),
        risk_level=text_of(found["risk_level"]),
        risk_score=_number(found["risk_score"]),
        doubt=doubt,
    )


_FOUND = {name: places for name, places in FIELDS.items() if name != "face_match"}  # see facts


def _placed(
    document: dict[str, Any],
    overrides: Mapping[FieldName, Expression],
    *,
    is_trial: bool,
    failed: Failed,
) -> dict[FieldName, Any]:
    """Return what is found where an operator says that a field is."""
    budget = Budget(is_trial=is_trial)  # shared by all of them
    placed: dict[FieldName, Any] = {}
    for name, expression in overrides.items():
        try:
            placed[name] = expression.search(document, budget)
        except EvaluationError as error:
            placed[name] = None
            failed(name, str(error))
    return placed


def _conclude(
    document: dict[str, Any], type_: str, word: Any, stated: facts.Facts
) -> tuple[Outcome, str]:
    """Return the outcome of a body whose first status word is `word`, and its doubt: where any word
    says VERIFIED, all that is stated must fit. An event that Prembly documents as another one has
    no outcome, and nothing to doubt."""
    is_about = events.is_about_verification(type_)
    if not is_about and not events.has_other_name(document):
        return Outcome.UNKNOWN, ""
    doubt = stated.doubts() if stated.says_verified else ""
    return Outcome.UNKNOWN if doubt or not is_about else outcome_of(word), doubt


# Where an id stands when there is no reference (see FIELDS): the best one first.
OTHER_IDS = Places(
    "reference_id",
    "data.reference_id",
    "data.verification_id",
    "verification_id",
    "data.screening_result.transaction_id",
    "screening_result.transaction_id",
)
_RUN_IDS = Places(
    *(
        f"{place}{name}"
        for name in ("workflow_run_id", "run_id", "process_id", "workflow_process_id", "id")
        for place in ("data.", "")
    )
)


def _other_reference(document: dict[str, Any], type_: str, session_id: str | None) -> str | None:
    """Return what stands for the reference of a body that has none: another id, of a workflow its
    run's, and last a digest of its session's id, which is itself a secret."""
    found = text_of(OTHER_IDS.find(document))
    if found is None and type_.startswith("workflow."):
        found = text_of(_RUN_IDS.find(document))
    return session_reference(session_id) if found is None and session_id else found


def session_reference(session_id: str) -> str:
    """Return the reference of events that have nothing but a session: a digest, since the id opens
    the session at Prembly."""
    digest = hashlib.sha256(same_id(session_id).encode("utf-8", "replace")).hexdigest()
    return f"session-{digest[:24]}"


def same_id(identifier: str) -> str:
    """Return what is the same for all spellings of an id: Prembly takes a UUID with hyphens and
    with underscores, so both name the same verification."""
    if not _UUID.fullmatch(identifier):
        return identifier
    return identifier.replace("_", "").replace("-", "").lower()


def is_uuid(identifier: str) -> bool:
    """Return whether an id is a UUID, in any spelling."""
    return _UUID.fullmatch(identifier) is not None


def plain_id(identifier: str) -> str:
    """Return an id in the one spelling that stands for all of it: a UUID in small letters with
    hyphens, any other as it is."""
    if not _UUID.fullmatch(identifier):
        return identifier
    digits = same_id(identifier)
    ends = (8, 12, 16, 20, 32)
    return "-".join(digits[start:end] for start, end in zip((0, *ends), ends, strict=False))


_UUID = re.compile(r"[0-9a-f]{8}(?:[_-]?[0-9a-f]{4}){3}[_-]?[0-9a-f]{12}", re.IGNORECASE)


def text_of(value: Any) -> str | None:
    """Return a scalar as storable text; None for anything else, empty or over MAX_TEXT_BYTES."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value
        if len(text) > MAX_TEXT_BYTES:
            return None
    elif isinstance(value, bool):
        return "true" if value else "false"
    elif isinstance(value, int | float):
        try:
            text = str(value)
        except ValueError:  # over 4,300 digits: an override may add numbers up
            return None
    else:
        return None
    if text.isascii():
        return text if 0 < len(text) <= MAX_TEXT_BYTES else None
    stored = text.encode("utf-8", "replace")  # a lone surrogate can't be stored
    return stored.decode() if 0 < len(stored) <= MAX_TEXT_BYTES else None


def _code(value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    text = text_of(value)
    if text is None or isinstance(value, int):
        return text and text.zfill(2)
    return text.strip() or None


def _detail(value: Any) -> str | None:
    if isinstance(value, dict | list):
        try:
            value = jsontext.beginning(value, MAX_DETAIL_CHARS)
        # Writing needs more stack than reading did; an override may find what JSON doesn't have.
        except ValueError:
            return None
    if isinstance(value, str):
        value = value[:MAX_DETAIL_CHARS]
    return text_of(value)


def outcome_of(word: Any) -> Outcome:
    """Compare the whole word. Public handlers that search for "VERIFIED" approve NOT-VERIFIED."""
    return _OUTCOMES.get(facts.plain_word(word) or "", Outcome.UNKNOWN)


_OUTCOMES = {
    "verified": Outcome.VERIFIED,
    "not-verified": Outcome.NOT_VERIFIED,
    "pending": Outcome.PENDING,
}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    # Python reads 1_0 as ten; nobody else does.
    if isinstance(value, str) and (len(value) > MAX_TEXT_BYTES or "_" in value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _kind(document: dict[str, Any]) -> Kind:
    data = document.get("data")
    inner = data.get("data") if isinstance(data, dict) else None
    for place in (document, data, inner):
        if isinstance(place, dict) and place.get("widget_info"):
            return Kind.SDK
    if isinstance(data, dict) and data.get("source") == "SDK":
        return Kind.SDK
    return Kind.SDK if document.get("source") == "CHECKOUT" else Kind.API


CONTEXT_FIELDS = tuple(
    field.name for field in fields(Verdict) if field.name not in SECRET_VERDICT_FIELDS
)
WHEN_NAMES = ("endpoint", "verified_by", *CONTEXT_FIELDS, "body")
