"""Asking Prembly back: where and as whom, how often, and about which events."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from premblyd.config.base import Model
from premblyd.config.hooks import proxy_url
from premblyd.config.secrets import KeyValue, Secret, SecretValue
from premblyd.config.values import BaseUrl, DurationMs, HeaderName, QuestionPath

_DAY_MS = 86_400_000
_ASK_MS = (60_000, 300_000, 1_800_000, 7_200_000, 43_200_000)


class StatusQuestion(Model):
    """The question for one verification: `{id}` in the path is its reference, or its session's id.

    The default is Prembly's status check, which is not billed (docs.prembly.com, "verification
    status check").
    """

    method: Literal["GET", "POST"] = "GET"
    path: QuestionPath = "/api/v1/verification/api/status/{id}/"


class PremblyApi(Model):
    """Prembly's API, and as whom it is asked."""

    url: BaseUrl = "https://api.prembly.com"
    api_key: KeyValue | None = None
    api_key_header: HeaderName = "x-api-key"
    organisation: SecretValue | None = None
    organisation_header: HeaderName = "x-organisation-id"
    headers: dict[HeaderName, SecretValue] = Field({})
    rate: float = Field(5.0, gt=0, le=1000, allow_inf_nan=False)  # questions a second
    timeout_ms: DurationMs = Field(10_000, alias="timeout", ge=1)
    ca_file: Path | None = None
    proxy: Annotated[Secret, PlainValidator(proxy_url)] | None = None
    status: StatusQuestion = StatusQuestion()


class Pending(Model):
    """When Prembly is asked for what is not settled: after each of `ask`, then as often as its last
    until `give_up`. Both count from the event."""

    ask_ms: tuple[DurationMs, ...] = Field(_ASK_MS, alias="ask", min_length=1)
    give_up_ms: DurationMs = Field(3 * _DAY_MS, alias="give_up", ge=1)


class Duplicates(Model):
    """Which webhooks are the same event. `body`: those whose body, with an id of its own, is the
    same. `token`: those whose token is the same too."""

    by: Literal["body", "token"] = "body"
