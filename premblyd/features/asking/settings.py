"""Asking Prembly: at which URL, with which key, how often, and about which events."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from premblyd.config.hooks import ProxyValue
from premblyd.config.keys import ActionKey, Mistake, Section, mappings
from premblyd.config.models import Config
from premblyd.config.secrets import KeyValue, SecretValue
from premblyd.config.values import (
    BodyPath,
    DurationMs,
    HeaderName,
    Model,
    UrlPath,
    shaped,
)
from premblyd.ground.expressions import Expression
from premblyd.ground.times import DAY_MS
from premblyd.prembly.bodies import FieldName

_BASE_WORDS = "should be a URL such as https://api.prembly.com, without a / at its end, ? and #"
_QUESTION_WORDS = "should be a path that begins with / and has {id} once, such as /status/{id}/"
_PARAMETER_WORDS = "should be the name of a parameter in a URL: letters, digits, _ . - [ ]"
BaseUrl = Annotated[str, shaped(r"https?://[^\s/?#@]+(/[^\s?#]*[^\s?#/])?", _BASE_WORDS)]
QuestionPath = Annotated[
    str, shaped(r"/[\x21-\x22\x24-\x7a\x7e]*\{id\}[\x21-\x22\x24-\x7a\x7e]*", _QUESTION_WORDS)
]
ParameterName = Annotated[str, shaped(r"[A-Za-z0-9_.\[\]-]{1,64}", _PARAMETER_WORDS)]
OptionalParameterName = Annotated[str, shaped(r"[A-Za-z0-9_.\[\]-]{0,64}", _PARAMETER_WORDS)]

_ASK_MS = (60_000, 300_000, 1_800_000, 7_200_000, 43_200_000)


class StatusQuestion(Model):
    """The question for one verification: `{id}` in the path is its reference, or its session's id.

    The default is Prembly's status check, which is not billed (docs.prembly.com, "verification
    status check").
    """

    path: QuestionPath = "/api/v1/verification/api/status/{id}/"
    fields: dict[FieldName, BodyPath] = Field({})  # where the answer has a verdict field
    names_reference: bool = True  # whether an answer names the verification that it is about


class LogParameters(Model):
    """How the parameters of a question for the log are called; empty: that one is not sent."""

    page: ParameterName = "page"
    page_size: OptionalParameterName = "page_size"
    since: OptionalParameterName = "start_date"
    until: OptionalParameterName = "end_date"


class LogsQuestion(Model):
    """The question for Prembly's log of verifications, and where its answer has what.

    docs.prembly.com, "list verification logs", tells the parameters' meaning, but the stored copy
    has lost their names and does not show an entry: these are the likely ones.
    """

    path: UrlPath = "/api/v1/verification/logs/"
    parameters: LogParameters = LogParameters()
    page_size: int = Field(100, ge=1, le=1000)
    items: BodyPath = Expression(
        "[data.results, data.items, data.logs, data.data, data, results, items]"
        "[?type(@) == 'array'] | [0]"
    )
    # Of an entry:
    reference: BodyPath = Expression(
        "[reference_id, reference, verification.reference, verification_id, session_id, id,"
        " transaction_id]"
    )
    time: BodyPath = Expression("not_null(created_at, createdAt, date_created, timestamp)")
    code: BodyPath = Expression("not_null(response_code, responseCode)")
    status: BodyPath = Expression("not_null(verification_status, status)")
    when: BodyPath | None = None  # which entries are expected to come as events


class PremblyApi(Model):
    """Prembly's API, and as whom it is asked."""

    url: BaseUrl = "https://api.prembly.com"
    api_key: KeyValue | None = None
    headers: dict[HeaderName, SecretValue] = Field({})
    rate: float = Field(5.0, gt=0, le=1000, allow_inf_nan=False)  # questions a second
    timeout_ms: DurationMs = Field(10_000, alias="timeout", ge=1)
    ca_file: Path | None = None
    proxy: ProxyValue | None = None
    status: StatusQuestion = StatusQuestion()
    logs: LogsQuestion = LogsQuestion()


Unstated = Literal[
    "response_code",
    "status",
    "detail",
    "verification_status",
    "user_ref",
    "face_match",
    "face_confidence",
    "risk_level",
    "risk_score",
]


class Confirm(Model):
    """Prembly must confirm an event before the hook runs. `unstated`: facts for which the event's
    word is enough, if Prembly's answer does not state them."""

    unstated: tuple[Unstated, ...] = ()


def _confirm(value: Any) -> Any:
    """Read `true`, `false`, or a mapping that says more than `true`."""
    if wants_confirmation(value):
        return value if isinstance(value, dict) else {}
    if str(value).lower() not in ("false", "no", "off", "0"):
        raise ValueError("should be true, false, or a mapping such as {unstated: [face_match]}")
    return None


def wants_confirmation(value: Any) -> bool:
    """Return whether this value of `confirm` says that Prembly is asked."""
    return isinstance(value, dict) or str(value).lower() in ("true", "yes", "on", "1")


ConfirmValue = Annotated[Confirm | None, BeforeValidator(_confirm)]


class Pending(Model):
    """When Prembly is asked for what is not settled: after each of `ask`, then as often as its last
    until `give_up`. Both count from the event."""

    ask_ms: tuple[DurationMs, ...] = Field(_ASK_MS, alias="ask", min_length=1)
    give_up_ms: DurationMs = Field(3 * DAY_MS, alias="give_up", ge=1)

    @field_validator("ask_ms")
    @classmethod
    def _rises(cls, times_ms: tuple[int, ...]) -> tuple[int, ...]:
        if any(later <= earlier for earlier, later in pairwise((0, *times_ms))):
            raise ValueError("each must be later than the one before; all count from the event")
        return times_ms


def nobody_to_ask(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what needs an answer of Prembly's, while there is no key to ask with."""
    prembly = data.get("prembly")
    if isinstance(prembly, dict) and "api_key" in prembly:
        return
    message = "asks Prembly, which needs a key: set `prembly: {api_key: {file: …}}`"
    for index, action in mappings(data, "actions"):
        if wants_confirmation(action.get("confirm")):
            yield Mistake(("actions", index, "confirm"), message)
    if data.get("pending") is not None:
        yield Mistake(("pending",), message, is_about_key=True)


PREMBLY: Section[PremblyApi | None] = Section("prembly", PremblyApi | None, None)
PENDING: Section[Pending | None] = Section("pending", Pending | None, None)
# By Prembly, before the hook runs.
CONFIRM: ActionKey[Confirm | None] = ActionKey(
    "confirm", ConfirmValue, None, told="confirmed by Prembly first"
)
SECTIONS = (PREMBLY, PENDING)
ACTION_KEYS = (CONFIRM,)
MISTAKES = (nobody_to_ask,)


def may_ask(settings: Config) -> bool:
    """Return whether Prembly can be asked."""
    api = PREMBLY.of(settings)
    return api is not None and api.api_key is not None
