"""What the record holds, as rows that people and programs read. Times in Unix milliseconds.

A row of a list has no payload and no secret: its class names every column that it shows.
"""

from dataclasses import dataclass, field

from premblyd.store.models import State


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event in a list."""

    id: int
    key: str
    endpoint: str
    received_at_ms: int
    remote_ip: str
    body_bytes: int
    body_sha256: str
    verified_by: str
    kind: str
    response_code: str | None
    status: str | None
    detail: str | None
    verification_status: str | None
    outcome: str
    reference: str | None
    user_ref: str | None
    face_match: bool | None
    face_confidence: float | None
    duplicate_count: int
    last_duplicate_at_ms: int | None
    type: str | None  # None: stored by a premblyd that did not tell types
    risk_level: str | None
    risk_score: float | None
    doubt: str | None  # empty: none; None: stored by a premblyd that did not look for it
    contradicted: bool  # by Prembly, asked to confirm it


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeEvent:
    """An event with its payload and its secrets, which no error's text and no log may show."""

    id: int
    key: str
    endpoint: str
    received_at_ms: int
    remote_ip: str
    token: str | None = field(repr=False)
    headers: str = field(repr=False)  # JSON [[name, value], …]
    body_bytes: int
    body_sha256: str
    verified_by: str
    kind: str
    response_code: str | None
    status: str | None
    detail: str | None = field(repr=False)
    verification_status: str | None
    outcome: str
    reference: str | None
    user_ref: str | None = field(repr=False)
    session_id: str | None = field(repr=False)
    face_match: bool | None
    face_confidence: float | None
    duplicate_count: int
    last_duplicate_at_ms: int | None
    type: str | None
    risk_level: str | None
    risk_score: float | None
    doubt: str | None
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """A delivery, and what its event is about; that may have been deleted by hand."""

    id: int
    action: str
    state: str
    due_at_ms: int | None
    attempt_count: int
    attempts_left: int
    created_at_ms: int
    finished_at_ms: int | None
    last_error: str | None
    ran_instead_id: int | None
    ran_instead_event_id: int | None
    once_key: str | None
    confirmed_at_ms: int | None
    confirmed_sha256: str | None
    order_key: str | None
    order_place: int | None
    waits_for_id: int | None
    holds_order: bool | None
    type: str | None  # of the event, and what follows
    response_code: str | None
    outcome: str | None
    reference: str | None
    contradicted: bool
    event_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One run of a delivery's hook, with what that printed."""

    id: int
    number: int
    worker: str
    action_digest: str
    started_at_ms: int
    finished_at_ms: int | None
    outcome: str | None  # None while it runs
    exit_code: int | None
    http_status: int | None
    error: str | None
    output: str | None = field(repr=False)
    output_truncated: bool
    delivery_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InquiryRow:
    """A question to Prembly, and what came of it."""

    id: int
    at_ms: int
    purpose: str
    event_id: int | None
    delivery_id: int | None
    reference: str | None  # None: a session was asked for, whose id is a secret
    result: str
    duration_ms: int
    http_status: int | None
    error: str | None
    answer_bytes: int | None
    answer_sha256: str | None
    stored_event_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionRow:
    """A request that was refused."""

    id: int
    at_ms: int
    endpoint: str
    remote_ip: str
    reason: str
    body_bytes: int | None
    body_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedRow:
    """A verification that was not settled, and what became of asking Prembly about it."""

    id: int
    endpoint: str
    reference: str
    state: str
    due_at_ms: int | None  # None: it is over
    ask_count: int
    created_at_ms: int
    finished_at_ms: int | None
    last_error: str | None
    event_id: int
    settled_by_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRow:
    """What a person did."""

    id: int
    at_ms: int
    actor: str
    action: str
    event_id: int | None
    delivery_id: int | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDelivery:
    """A delivery that an operator's command is about."""

    id: int
    event_id: int
    action: str
    state: State
    ran_instead_id: int | None
    contradicted: bool  # its event was, by Prembly


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEvent:
    """An event that has no delivery of an action, its type and its response code."""

    id: int
    type: str | None
    response_code: str | None
    doubt: str | None
    contradicted: bool
