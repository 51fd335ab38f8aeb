"""A webhook, and what its body says: the verdict fields, for every shape Prembly has sent. Begin
with `Webhook` and `read`.

Sources: docs.prembly.com (webhooks; response codes and verification status) and what public
consumers of both Prembly and Identitypass read. No field is ever required.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from typing import Any

from premblyd.ground import jsontext
from premblyd.ground.expressions import Budget, EvaluationError, Expression
from premblyd.ground.privacy import SECRET_VERDICT_FIELDS
from premblyd.prembly import bodies, events, facts
from premblyd.prembly.bodies import FIELDS, ByPath, FieldName, Places

# A longer text is no identifier or status; the body still holds it. (PostgreSQL refuses a row with
# more than 2,704 bytes in an index.)
MAX_TEXT_BYTES = 2048
MAX_DETAIL_CHARS = 500
# The response codes that Prembly documents.
CODES = {
    "00": "processed",
    "01": "not found",
    "02": "service unavailable",
    "03": "wallet is empty",
    "07": "BVN blocked",
}
WALLET_CODE = "03"


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
    # Why a VERIFIED is none: words of facts.Doubt, with commas between.
    doubt: str = ""


CONTEXT_FIELDS = tuple(
    field.name for field in fields(Verdict) if field.name not in SECRET_VERDICT_FIELDS
)
WHEN_NAMES = ("endpoint", "verified_by", *CONTEXT_FIELDS, "body")
# The trace that a request belongs to, as W3C Trace Context says (www.w3.org/TR/trace-context), of
# version 00 alone. premblyd makes no spans, so it passes the value on as it came.
TRACE_HEADER = "traceparent"
# Version, trace-id, parent-id and flags, in lower case; ids of zeros are none.
_VALID_TRACE = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, kw_only=True)  # no slots: cached properties need a __dict__
class Webhook:
    """An authentic webhook, exactly as received."""

    endpoint: str
    received_at_ms: int
    remote_ip: str
    token: str | None
    headers: str  # JSON [[name, value], …]; no signature, token, credential
    body: bytes
    verified_by: str  # the scheme and the key's name: hmac-sha256:live
    verdict: Verdict

    @cached_property
    def document(self) -> dict[str, Any] | None:
        """The JSON object in the body; None when the body is anything else. Read once, and kept."""
        return bodies.parse(self.body)

    def keep_document(self, document: dict[str, Any] | None) -> None:
        """Keep `document`, which the caller has read from the body already."""
        self.__dict__["document"] = document

    def drop_document(self) -> None:
        """Let the document go: it takes many times the memory of its body."""
        self.__dict__.pop("document", None)

    @cached_property
    def body_sha256(self) -> bytes:
        """The body's SHA-256. Made once: of 16 MiB it takes 12 ms."""
        return hashlib.sha256(self.body).digest()

    @property
    def traceparent(self) -> str | None:
        """In which trace it came: the one valid traceparent among its headers; None: there is none,
        or another one beside it, or they are not there any more."""
        if TRACE_HEADER not in self.headers.lower():
            return None
        try:
            headers = json.loads(self.headers)
            values = [str(value) for name, value in headers if str(name).lower() == TRACE_HEADER]
        except (ValueError, TypeError):  # somebody has changed them, which is no hook's fault
            return None
        return values[0] if len(values) == 1 and _VALID_TRACE.fullmatch(values[0]) else None

    @property
    def trace_id(self) -> str | None:
        """The trace's, for the log."""
        traceparent = self.traceparent
        return traceparent[3:35] if traceparent else None

    def context(self) -> dict[str, Any]:
        """Return what `when` and `select` see: the endpoint and the key's scheme and name, the
        verdict fields and the body.

        The session id is left out: it is a secret that opens a session at Prembly.
        """
        return {
            "endpoint": self.endpoint,
            "verified_by": self.verified_by,
            **{name: getattr(self.verdict, name) for name in CONTEXT_FIELDS},
            "body": self.document,
        }


@dataclass(frozen=True, kw_only=True)
class StoredEvent(Webhook):
    """An event: a webhook that is in the database, with its number and its key there. Its body may
    be gone, and of who is erased, all that named anybody."""

    id: int
    key: str
    has_body: bool = True
    is_erased: bool = False


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
    body = bodies.by_path(document)
    found: dict[FieldName, Any] = {name: FIELDS[name].find(body) for name in _READERS}
    found.update(placed)
    stated = facts.Facts(body, placed, overrides or {})
    if found["verification_status"] is True:  # it is silent: the next one that speaks counts
        found["verification_status"] = next(iter(stated.words), True)
    type_ = events.type_of(body)
    outcome, doubt = _conclude(body, type_, found["verification_status"], stated)
    said: dict[str, Any] = {
        name: read(found[name]) for name, read in _READERS.items() if found[name] is not None
    }
    if said.get("reference") is None and "reference" not in (overrides or ()):
        said["reference"] = _other_reference(body, type_, said.get("session_id"))
    return Verdict(
        kind=Kind.SDK if events.is_of_sdk(body) else Kind.API,
        type=type_,
        outcome=outcome,
        face_match=stated.face_match,
        doubt=doubt,
        **said,
    )


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


def _conclude(body: ByPath, type_: str, word: Any, stated: facts.Facts) -> tuple[Outcome, str]:
    """Return the outcome of a body whose first status word is `word`, and its doubt: where any word
    says VERIFIED, all that is stated must fit. An event that Prembly documents as another one has
    no outcome, and nothing to doubt."""
    is_about = events.is_about_verification(type_)
    if not is_about and not events.has_other_name(body):
        return Outcome.UNKNOWN, ""
    doubt = facts.in_words(stated.doubts()) if stated.says_verified else ""
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


def _other_reference(body: ByPath, type_: str, session_id: str | None) -> str | None:
    """Return what stands for the reference of a body that has none: another id, of a workflow its
    run's, and last a digest of its session's id, which is itself a secret."""
    found = text_of(OTHER_IDS.find(body))
    if found is None and type_.startswith("workflow."):
        found = text_of(_RUN_IDS.find(body))
    return session_reference(session_id) if found is None and session_id else found


def session_reference(session_id: str) -> str:
    """Return the reference of events that have nothing but a session: a digest, since the id opens
    the session at Prembly."""
    digest = hashlib.sha256(same_id(session_id).encode("utf-8", "replace")).hexdigest()
    return f"session-{digest[:24]}"


def same_id(identifier: str) -> str:
    """Return what is the same for all spellings of an id: Prembly takes a UUID with hyphens and
    with underscores, so both name the same verification."""
    found = _UUID.fullmatch(identifier)
    return "".join(found.groups()).lower() if found else identifier


def is_uuid(identifier: str) -> bool:
    """Return whether an id is a UUID, in any spelling."""
    return _UUID.fullmatch(identifier) is not None


def plain_id(identifier: str) -> str:
    """Return the plain spelling of an id: a UUID in small letters with hyphens, any other as it
    is."""
    found = _UUID.fullmatch(identifier)
    return "-".join(found.groups()).lower() if found else identifier


_UUID = re.compile("[_-]?".join(rf"([0-9a-f]{{{n}}})" for n in (8, 4, 4, 4, 12)), re.IGNORECASE)


def text_of(value: Any) -> str | None:
    """Return a scalar as storable text; None for anything else, empty or over MAX_TEXT_BYTES."""
    if value is None:
        return None
    if not isinstance(value, str):
        if isinstance(value, bool):
            return "true" if value else "false"
        if not isinstance(value, int | float):
            return None
        try:
            value = str(value)
        except ValueError:  # over 4,300 digits: an override may add numbers up
            return None
    if len(value) > MAX_TEXT_BYTES:
        return None
    if value.isascii() and "\0" not in value:
        return value or None
    stored = without_nul(value).encode("utf-8", "replace")  # a lone surrogate can't be stored
    return stored.decode() if len(stored) <= MAX_TEXT_BYTES else None


def without_nul(text: str) -> str:
    """Return `text` with U+FFFD for each NUL, which PostgreSQL can't hold in a text. It is never
    left out: A, NUL is not A."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


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


# How what stands in a field's place is read. (What is said of a face: see facts.)
_READERS: dict[FieldName, Callable[[Any], Any]] = {
    **{name: text_of for name in FIELDS if name != "face_match"},
    "response_code": _code,
    "detail": _detail,
    "face_confidence": _number,
    "risk_score": _number,
}
