"""What is private, and what may be seen: every such list of names, and no other module has one.

Most say what is shown, not what is hidden: a header, a column or a field that is new is private
until it is put on a list here. So are the words that are nobody's name."""

from enum import Enum, auto

VOCABULARY = frozenset(
    """
    a able about accepted account active additional address advance advanced again all already
    amount an and any api api_key are async at authentication authorization available back bad
    balance bank basic be been before biometric blocked body bvn by cac can can't card cards
    check checkout code company complete completed confidence connection contact could couldn't
    credit critical customer data date declined default denied detail details didn't disabled
    document does doesn't done driver drivers driving duplicate empty enabled endpoint enter
    entered error errors escalated event exist exists expired face facial fail failed failure
    false field fields file flagged for format found free from has have high http https id
    identity identitypass image images in inactive incomplete info information insufficient
    internal invalid ip is issue it its json kindly kyc later level licence license limit listed
    live liveness low match matched matching medium message method minimal missing name new nin
    no none not null number of ok on or paid parameter passed passport pay pending permanent
    phone photo please portal prembly premium process processed processing production provided
    query ready received record records reference rejected request required response result
    retrieved retry returned review sandbox screening sdk selfie server service services session
    sorry source started state status submitted success successful successfull successfully
    suspended system tax temporary test that the there this time timeout tin to token too
    transaction true try type unable unauthorized unavailable undefined unknown unpaid
    unsuccessful update url used user v valid value verification verifications verified verify
    verifying via virtual vnin voter voters wallet was watch watchlist watchlisted webhook were
    widget with workflow wrong yes you your
    """.split()
)
# More words that the names of event types are made of, and nobody's name there.
TYPE_WORDS = VOCABULARY | frozenset(
    """
    alert analysis asynchronous cancelled case closed created decision direct escalated flagged
    fraud identity manual monitoring opened other process raised released reported resolved
    retried retry rule scored screened sdk statement triggered unnamed updated
    """.split()
)


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
