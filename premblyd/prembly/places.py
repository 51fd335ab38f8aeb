"""Where each verdict field is found in a body.

Sources: docs.prembly.com (webhooks; response codes and verification status; transaction
monitoring) and what public consumers of both Prembly and Identitypass read.
"""

from collections.abc import Mapping
from typing import Any, Literal

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
    "risk_level",
    "risk_score",
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

    def values(self, document: Mapping[str, Any]) -> list[Any]:
        """Return what stands in each of the places, but for null and what is not there."""
        found = []
        for first, rest in self._steps:
            if first not in document:
                continue
            value = document[first]
            for name in rest:
                value = value.get(name) if isinstance(value, dict) else None
            if value is not None:
                found.append(value)
        return found


def _is_zero(value: Any) -> bool:
    """Return whether a value that Python calls false is a number: to JMESPath, zero is true."""
    return isinstance(value, int | float) and value is not False


FIELDS: dict[FieldName, Places] = {
    "response_code": Places(
        "response_code",
        "responseCode",
        "data.response_code",
        "data.responseCode",
        "verification.response_code",
    ),
    "status": Places("status", "data.status", takes_false=True),
    "detail": Places("detail", "message", "data.detail", "data.message"),
    "verification_status": Places(
        "verification.status",
        "data.verification.status",
        "verification_status",
        "verificationStatus",
        "data.verification_status",
        "data.data.verification.status",
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
        "data.data.face_data.Status",
        "data.data.face_data.status",
        takes_false=True,
    ),
    "face_confidence": Places(
        "face_data.confidence",
        "data.face_data.confidence",
        "data.biometric_results.average_confidence",
        takes_false=True,
    ),
    "risk_level": Places(
        "data.screening_result.risk_level",
        "screening_result.risk_level",
        "data.risk_level",
        "risk_level",
    ),
    "risk_score": Places(
        "data.screening_result.risk_score",
        "screening_result.risk_score",
        "data.risk_score",
        "risk_score",
        takes_false=True,
    ),
}
# Objects about a face. What they say of it must agree (see facts.py).
FACE_DATA = Places("face_data", "data.face_data", "data.data.face_data")
