"""What is private, and what may be seen: every such list of names, and no other module has one.

Most say what is shown, not what is hidden: a header, a column or a field that is new is private
until it is put on a list here.
"""

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

# Columns of an event that no list shows: the payload, and what opens something. (A test holds that
# record.rows.EventRow has none of them.)
UNLISTED_COLUMNS = SECRET_VERDICT_FIELDS | {"body", "headers", "token"}
# Columns of an event and a delivery that no sender fills, or only with our own words: shown as
# they are. All others are shown only in the shape of a field below, or not at all.
OWN_COLUMNS = frozenset(
    "id key endpoint received_at_ms remote_ip body_bytes body_sha256 verified_by kind outcome doubt"
    " face_match duplicate_count last_duplicate_at_ms event_id action state due_at_ms attempt_count"
    " attempts_left created_at_ms finished_at_ms ran_instead_id ran_instead_event_id"
    " confirmed_at_ms confirmed_sha256 order_place waits_for_id holds_order ask_count"
    " settled_by_id".split()
)
# Fields of a body, and columns made of them, by the shape in which they are shown (documents.py).
CODE_FIELDS = frozenset({"response_code", "responsecode"})
SENTENCE_FIELDS = frozenset({"detail", "message"})
REFERENCE_FIELDS = frozenset(
    "reference referenceid reference_id user_ref verification_id transaction_id".split()
)
WORD_FIELDS = frozenset(
    "status success verification_status verificationstatus billing_status watchlisted source"
    " document_type verification_type endpoint_name risk_level".split()
)
TYPE_FIELDS = frozenset({"type", "event"})
NUMBER_FIELDS = frozenset({"confidence", "average_confidence", "face_confidence", "risk_score"})

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
