"""What is private, and what may be seen: every such list of names, and no other module has one.

Most say what is shown, not what is hidden: a header, a column or a field that is new is private
until it is put on a list here.
"""

from enum import Enum, auto

# --- What is stored -----------------------------------------------------------------------

# Headers of a webhook that are stored. Who sent it, by which way, and what the body is; no place
# where a credential or a person's data is put.
KEPT_HEADERS = frozenset(
    "accept accept-encoding accept-language content-encoding content-language content-length"
    " content-type date forwarded host traceparent transfer-encoding user-agent via"
    " x-correlation-id x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip"
    " x-request-id".split()
)

# --- What expressions see, and a dry run shows --------------------------------------------

# Verdict fields that open something at Prembly: no expression sees them, and `explain` masks them.
SECRET_VERDICT_FIELDS = frozenset({"session_id"})

# --- What a list and `show` show ----------------------------------------------------------


class Shape(Enum):
    """In which shape a text that somebody else wrote is shown to people who may not see personal
    data (documents.py has how). In another shape it is masked."""

    PLAIN = auto()  # whatever it is: no sender wrote it, or it is meant to be seen
    CODE = auto()
    WORD = auto()  # known words
    TYPE = auto()  # of an event
    REFERENCE = auto()
    NUMBER = auto()  # a confidence
    SENTENCE = auto()  # known words, and those without a capital
    ERROR = auto()  # our own words about what somebody else wrote
    MASKED = auto()  # in none


# Fields of a body. (Of columns, model/tables.py says it.)
FIELDS = {
    Shape.CODE: "response_code responsecode",
    Shape.SENTENCE: "detail message",
    Shape.REFERENCE: "reference referenceid reference_id user_ref verification_id transaction_id",
    Shape.WORD: "status success verification_status verificationstatus billing_status watchlisted"
    " source document_type verification_type endpoint_name risk_level",
    Shape.TYPE: "type event",
    Shape.NUMBER: "confidence average_confidence face_confidence risk_score",
}
SHAPES = {name: shape for shape, names in FIELDS.items() for name in names.split()}

# --- What a preview of a hook shows -------------------------------------------------------

# Headers of an http hook whose value is masked, besides the endpoint's signature header.
MASKED_REQUEST_HEADERS = frozenset({"webhook-signature", "token"})

# --- What is logged -----------------------------------------------------------------------

# Keys of a log line whose value is dropped whatever it is (docs.prembly.com; fields that
# consumers redact).
DROPPED_LOG_KEYS = frozenset(
    "body token signature session_id key_text authorization secret password output photo image"
    " images base64image selfie bvn nin vnin number account_number address email phone"
    " telephoneno user_ref detail first_name last_name".split()
)
# Keys whose value premblyd made or an operator named: no person's number, whatever digits are in
# it. In all others long numbers are masked.
OWN_LOG_KEYS = frozenset(
    "key event_id delivery timestamp level endpoint action verified_by database listen version"
    " library where exception traceback duration_ms".split()
)
