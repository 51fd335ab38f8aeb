"""What a webhook's body says: the verdict fields, for every shape Prembly has sent.

Sources: docs.prembly.com (webhooks; response codes and verification status) and what public
consumers of both Prembly and Identitypass read. No field is ever required.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Literal

from premblyd import jsontext
from premblyd.expressions import Budget, EvaluationError, Expression
from premblyd.prembly import bodies
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


FieldName = Literal[
    "response_code",
    "status",
    "detail",
    "verification_status",
    "reference",
    "user_ref",
    "session_id",
    "face_match",
    "face_confidence",
]


class Places:
    """Where a field is found: dotted paths into the body, of which the first that says something
    wins. JMESPath, in which operators write their own places, takes 50 µs more per webhook."""

    __slots__ = ("_steps", "_takes_false", "paths")

    def __init__(self, *paths: str, takes_false: bool = False) -> None:
        """Skip what JMESPath calls false (null, false, "", [], {}); with `takes_false`, skip null
        alone, since false says something about this field."""
        self.paths = paths
        self._steps = [(first, rest) for first, *rest in (path.split(".") for path in paths)]
        self._takes_false = takes_false

    @property
    def expression(self) -> str:
        """The same in JMESPath. (When all paths lead to something false, JMESPath finds the last of
        it, and `find` None.)"""
        if self._takes_false:
            return f"not_null({', '.join(self.paths)})"
        return " || ".join(self.paths)

    def find(self, document: dict[str, Any]) -> Any:
        """Return what `document` says, or None."""
        for first, rest in self._steps:
            if first not in document:
                continue
            value = document[first]
            for name in rest:
                value = value.get(name) if isinstance(value, dict) else None
            if value or (value is not None and (self._takes_false or _is_zero(value))):
                return value
        return None


def _is_zero(value: Any) -> bool:
    """Return whether a value that Python calls false is a number: to JMESPath, zero is true."""
    return isinstance(value, int | float) and value is not False


FIELDS: dict[FieldName, Places] = {
    "response_code": Places(
        "response_code",
        "responseCode",
        "data.response_code",
        "data.responseCode",
    ),
    "status": Places("status", "data.status", takes_false=True),
    "detail": Places("detail", "message", "data.detail", "data.message"),
    "verification_status": Places(
        "verification.status",
        "data.verification.status",
        "verification_status",
        "verificationStatus",
        "data.verification_status",
    ),
    "reference": Places(
        "verification.reference",
        "data.verification.reference",
        "reference",
        "data.reference",
        "referenceId",
        "data.verification_response.reference",
    ),
    "user_ref": Places(
        "widget_info.user_ref",
        "data.widget_info.user_ref",
        "data.data.widget_info.user_ref",
        "user_info.user_ref",
        "user_ref",
        "data.user_ref",
        "customer_reference",
        "data.customer_reference",
    ),
    "session_id": Places(
        "session_id",
        "data.session_id",
        "data.widget_info.session_id",
        "data.data.widget_info.session_id",
        "widget_info.session_id",
    ),
    "face_match": Places(
        "face_data.Status",
        "face_data.status",
        "data.face_data.Status",
        "data.face_data.status",
        takes_false=True,
    ),
    "face_confidence": Places(
        "face_data.confidence",
        "data.face_data.confidence",
        "data.biometric_results.average_confidence",
        takes_false=True,
    ),
}

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
    found = {name: places.find(document) for name, places in FIELDS.items()}
    if overrides:
        budget = Budget(is_trial=is_trial)  # shared by all of them
        for name, expression in overrides.items():
            try:
                found[name] = expression.search(document, budget)
            except EvaluationError as error:
                found[name] = None
                failed(name, str(error))
    verification_status = _text(found["verification_status"])
    return Verdict(
        kind=_kind(document),
        response_code=_code(found["response_code"]),
        status=_text(found["status"]),
        detail=_detail(found["detail"]),
        verification_status=verification_status,
        outcome=_outcome(found["verification_status"]),
        reference=_text(found["reference"]),
        user_ref=_text(found["user_ref"]),
        session_id=_text(found["session_id"]),
        face_match=_boolean(found["face_match"]),
        face_confidence=_number(found["face_confidence"]),
    )


def _text(value: Any) -> str | None:
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
    text = _text(value)
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
    return _text(value)


def _outcome(status: Any) -> Outcome:
    """Compare the whole word. Public handlers that search for "VERIFIED" approve NOT-VERIFIED."""
    # isascii: with a dotless i, verified would fold to VERIFIED.
    if not isinstance(status, str) or len(status) > _LONGEST_WORD or not status.isascii():
        return Outcome.UNKNOWN
    word = status.lower().replace("_", "-").replace(" ", "-")
    return _OUTCOMES.get(word, Outcome.UNKNOWN)


_OUTCOMES = {
    "verified": Outcome.VERIFIED,
    "not-verified": Outcome.NOT_VERIFIED,
    "pending": Outcome.PENDING,
}
_LONGEST_WORD = max(map(len, _OUTCOMES))


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= MAX_TEXT_BYTES:
        return {"true": True, "false": False}.get(value.strip().lower())
    return None


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
