"""Which of Prembly's events a body is: its type, told by the marks that Prembly's guide names
(docs.prembly.com, guides/developers/webhooks/events, and docs/transaction-monitoring).

The guide gives some marks without the rest of the body, so each is looked for alone. A body with
the marks of two types is of the more specific one, which stands first below.
"""

import fnmatch
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from premblyd.prembly.bodies import FIELDS, ByPath, Places

UNKNOWN = "unknown"  # no marks, or no JSON object
STATUS = "prembly.status"  # an answer of Prembly's API that premblyd stored; no body can claim it
STORED_BY = "prembly-api"  # `verified_by` of such an event: no key signed it
SESSION = "sdk.session"
DIRECT = "verification.direct"
ASYNC = "verification.async"
RETRIED = "verification.retried"
STATEMENT = "statement.analysis"
TRANSACTION = "transaction.unnamed"  # a screening result without an event's name
CREDIT = "credit"
OTHER = "other"  # an event's name that can be no type

# Every type that the guide names, and what sends it.
MEANINGS = {
    SESSION: "a session of the SDK is finished, passed or failed",
    DIRECT: "a direct call of the API is answered",
    ASYNC: "an asynchronous verification, or a check of Customer 360 monitoring, is completed",
    RETRIED: "a verification is completed after a retry by Prembly",
    "workflow.process.completed": "a workflow run is completed",
    "workflow.process.failed": "a workflow run failed",
    "workflow.process.manual_review": "a workflow run waits for a person",
    STATEMENT: "a statement is analysed",
    "transaction.processed": "a transaction is screened",
    "transaction.escalated": "a transaction is escalated",
    TRANSACTION: "a transaction is screened, and the event has no name",
    "watchlist.identity_flagged": "a verified identity is on a watchlist",
    CREDIT: "a credit event",
    STATUS: "premblyd has asked Prembly, and stored the answer",
    OTHER: "an event has an odd name that can't be a type",
    UNKNOWN: "nothing above fits",
}
# The types that say something about a person's verification. Only these have an outcome: a workflow
# run, a transaction or an alert never verifies anybody, whatever else stands in its body.
ABOUT_VERIFICATION = (SESSION, "verification.*", STATUS, UNKNOWN)
OTHER_FAMILIES = ("workflow", "transaction", "watchlist", "credit", "statement")

# Places that are looked at each by itself.
_SINGLE = Places(
    *"event data.event source data.source completed_at".split(),
    *"data.verification_id data.channel_code".split(),
)
_FAMILY = re.compile(rf"({'|'.join(OTHER_FAMILIES)})([._]|\Z)")
_VERIFICATION = re.compile(r"verification([._]|\Z)")
_FAILURE = re.compile(r"[._](failed|error)\Z")
# The name of a type.
NAME = re.compile(r"(?=.{1,64}\Z)[a-z][a-z_]{0,31}(\.[a-z][a-z0-9_]{0,31}){0,4}")
_CODE = re.compile(r"\s*[0-9]{1,3}\s*")
_TRUE = (True, 1, "1", "true", "yes")
# An analysis has its engine's version (api-reference, verify_bank_statement_analysis).
_ANALYSIS = Places("data.meta.engine_version", "meta.engine_version")
_ANALYSES = Places(
    *(
        f"{place}{name}"
        for name in ("statement_analysis", "bank_statement_analysis", "analysis_result", "analysis")
        for place in ("", "data.")
    )
)
_WIDGET = Places("widget_info", "data.widget_info", "data.data.widget_info")
_SCREENING = Places("data.screening_result", "screening_result")
_DIRECT = Places("verification", "data.verification", "billing_info", "data.billing_info")
_RETRIES = (
    Places("is_callback_retry", "data.is_callback_retry"),
    Places("is_pending_payment_retry", "data.is_pending_payment_retry"),
)


def type_of(body: ByPath) -> str:
    """Return the type of a parsed body. Never raise."""
    names = _names(body)
    for name in names:
        if name.type and name.is_documented:
            return name.type
    if any(_SCREENING.values(body)):
        inner = _name(body.get("data.event"))
        return f"transaction.{inner}"[:64] if inner else TRANSACTION
    for name in names:
        if name.type:
            return name.type
    if marked := _marked(body):
        return marked
    whole = _name(body.get("event"))
    if whole and whole.startswith("verification."):
        return whole
    return DIRECT if _has_code(body) else UNKNOWN


def has_other_name(body: ByPath) -> bool:
    """Return whether a body gives its event a name that Prembly does not document, or that says
    that a verification failed."""
    return False in [name.is_documented for name in _names(body)]


class _EventName(NamedTuple):
    """What an event's name says: a type; None leaves that to the marks, which tell more."""

    type: str | None
    is_documented: bool  # as a name, or as the beginning of names


def _names(body: ByPath) -> list[_EventName]:
    # The guide tells the events of transaction monitoring by `data.event`.
    names = []
    for path, prefix in (("event", ""), ("data.event", "transaction.")):
        if path in body and body[path] != "":
            names.append(_event_name(body[path], prefix))
    return names


def _event_name(value: Any, prefix: str) -> _EventName:
    name = _name(value)
    if name is None:
        return _EventName(OTHER, False)
    if family := _FAMILY.match(name):
        dotted = name if "." in name else f"{family[1]}.{name[family.end() :]}".rstrip(".")
        return _EventName(dotted, True)
    if name == SESSION or _VERIFICATION.match(name):
        return _EventName(None, not _FAILURE.search(name))
    if prefix:
        return _EventName(f"{prefix}{name}"[:64], f"{prefix}{name}" in MEANINGS)
    is_type = "." in name and not name.startswith(("prembly", "sdk."))
    return _EventName(name if is_type else OTHER, False)


@lru_cache(maxsize=256)
def is_about_verification(type_: str) -> bool:
    """Return whether events of this type say something about a person's verification."""
    return matches(ABOUT_VERIFICATION, type_)


def matches(patterns: Sequence[str], type_: str) -> bool:
    """Return whether a type fits one of these patterns: * is any text, ? any character."""
    return any(_compiled(pattern).match(type_) for pattern in patterns)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


def _name(value: Any) -> str | None:
    """Return an event's name as a type: in lower case, of letters, digits, dots and underscores,
    and with too few digits for anybody's number."""
    if not isinstance(value, str) or len(value) > 64:
        return None
    name = value.strip().lower()
    is_name = NAME.fullmatch(name) and sum(map(str.isdigit, name)) < 4
    return name if is_name else None


def _marked(body: ByPath) -> str | None:
    """Return the type by what stands in a body that names none; None: it has no marks."""
    for places in _RETRIES:
        retry = places.find(body)
        if (retry.strip().lower() if isinstance(retry, str) else retry) in _TRUE:
            return RETRIED
    if body.get("data.verification_id") and body.get("data.channel_code"):
        return ASYNC
    if is_of_sdk(body) or FIELDS["session_id"].find(body) or body.get("completed_at"):
        return SESSION
    status = FIELDS["verification_status"].find(body)
    # The guide names no field for an analysis. A body with a verification's status is about that.
    analyses = [value for value in _ANALYSES.values(body) if isinstance(value, dict | list)]
    if not status and (_ANALYSIS.find(body) or any(analyses)):
        return STATEMENT
    is_direct = any(isinstance(value, dict) for value in _DIRECT.values(body))
    return DIRECT if is_direct or status is not None else None


def is_of_sdk(body: ByPath) -> bool:
    """Return whether a body comes from the SDK, or from its forerunner."""
    return (
        any(_WIDGET.values(body))
        or body.get("data.source") == "SDK"
        or body.get("source") == "CHECKOUT"
    )


def _has_code(body: ByPath) -> bool:
    code = FIELDS["response_code"].find(body)
    if isinstance(code, int) and not isinstance(code, bool):
        return 0 <= code < 1000
    return isinstance(code, str) and _CODE.fullmatch(code) is not None
