"""What a configuration file holds, as models."""

import hashlib
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationInfo,
)

from premblyd import standardwebhooks
from premblyd.config.secrets import KeyValue, Secret, SecretValue, secret, secrets_in
from premblyd.config.values import (
    Code,
    DurationMs,
    EnvName,
    HeaderName,
    ListenValue,
    Name,
    NetworkValue,
    NonEmpty,
    SizeBytes,
    SqlitePath,
    UrlPath,
    listen,
    network,
)
from premblyd.expressions import Expression
from premblyd.prembly import payload, whens
from premblyd.prembly.signature import HEADER, Scheme

HEALTH_PATH = "/healthz"

_PROXY_URL = r"(http|socks5h)://([^\s/@]+@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?/?"
Select = Annotated[Expression, PlainValidator(lambda text: _expression(text, whens.compiled))]
BodyPath = Annotated[Expression, PlainValidator(lambda text: _expression(text, Expression))]


def _expression(text: Any, compiled: Callable[[str], Expression]) -> Expression:
    if not isinstance(text, str):
        raise ValueError("should be a JMESPath expression, as text")
    return compiled(text)


def _url(given: Any, info: ValidationInfo) -> Secret:
    """A URL, or a secret that holds one: many chat systems' URLs are secrets themselves."""
    url = secret(given, info)
    if url.value is not None and not url.value.startswith(("http://", "https://")):
        raise ValueError("should be a URL that starts with http:// or https://")
    return url


def _proxy(given: Any, info: ValidationInfo) -> Secret:
    """A proxy's URL, or a secret that holds one: it may have a password."""
    proxy = secret(given, info)
    if proxy.value is not None and not re.fullmatch(_PROXY_URL, proxy.value):
        raise ValueError("should be http://HOST:PORT or socks5h://HOST:PORT")
    return proxy


def _signing_secret(given: Any, info: ValidationInfo) -> Secret:
    """A Standard Webhooks secret."""
    signing = secret(given, info)
    if signing.value is not None:
        standardwebhooks.key_of(signing.value)
    return signing


class Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True
    )


class LogSettings(Model):
    """How the daemon logs. `auto`: colours on a terminal, JSON lines otherwise."""

    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Endpoint(Model):
    """A URL path on which Prembly's webhooks arrive."""

    name: Name
    path: UrlPath
    scheme: Annotated[Scheme, Field(strict=False)] = Scheme.HMAC_SHA256
    header: HeaderName = HEADER
    keys: dict[Name, KeyValue] = Field(min_length=1)
    require_token: bool = False
    allow_ips: tuple[NetworkValue, ...] = ()
    fields: dict[payload.FieldName, BodyPath] = {}

    @cached_property
    def key_texts(self) -> dict[str, str]:
        """The keys' values by name: only for the signature."""
        return {name: key.reveal() for name, key in self.keys.items()}


class Retry(Model):
    """When a failed hook runs again. `attempts` counts the first run too."""

    attempts: int = Field(10, ge=1, le=1000)
    first_delay_ms: DurationMs = Field(10_000, alias="first_delay")
    factor: float = Field(3.0, ge=1, le=100, allow_inf_nan=False)
    max_delay_ms: DurationMs = Field(4 * 3_600_000, alias="max_delay")


class Selection(Model):
    """What leaves the machine, chosen by a JMESPath expression."""

    select: Select


# Tagged, so that a problem is told of the one form that was meant.
Send = Annotated[
    Annotated[Literal["raw", "event"], Tag("send:word")]
    | Annotated[Selection, Tag("send:selection")],
    Discriminator(lambda given: "send:selection" if isinstance(given, dict) else "send:word"),
]


class HttpHook(Model):
    """A POST to a URL."""

    url: Annotated[Secret, PlainValidator(_url)]
    headers: dict[HeaderName, SecretValue] = {}
    sign_with: Annotated[Secret, PlainValidator(_signing_secret)] | None = None
    send: Send = "raw"
    timeout_ms: DurationMs = Field(15_000, alias="timeout", ge=1)
    ca_file: Path | None = None
    proxy: Annotated[Secret, PlainValidator(_proxy)] | None = None  # http_proxy is not obeyed


class Action(Model):
    """A reaction to events: one shell, command or http hook."""

    name: Name
    response_codes: tuple[Code, ...] = Field(min_length=1)
    when: Select | None = None
    shell: NonEmpty | None = None
    command: tuple[NonEmpty, ...] | None = Field(None, min_length=1)
    http: HttpHook | None = None
    hook_timeout_ms: DurationMs = Field(30_000, alias="timeout", ge=1)
    env: dict[EnvName, SecretValue] = {}
    retry: Retry = Retry()
    concurrency: int = Field(4, ge=1, le=256)

    @property
    def timeout_ms(self) -> int:
        return self.http.timeout_ms if self.http else self.hook_timeout_ms

    @cached_property
    def digest(self) -> str:
        """Which version of the action this is: 12 hex digits, made without any secret's value."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


class Config(Model):
    """A whole configuration file."""

    listen: ListenValue = listen("127.0.0.1:8080")
    database_path: SqlitePath = Field(alias="database")
    max_body_bytes: SizeBytes = Field(16 << 20, alias="max_body", ge=1)
    trusted_proxies: tuple[NetworkValue, ...] = (network("127.0.0.1"), network("::1"))
    log: LogSettings = LogSettings()
    max_in_flight_bytes: SizeBytes = Field(64 << 20, ge=1)
    max_in_flight_requests: int = Field(1000, ge=1)
    request_timeout_ms: DurationMs = Field(30_000, alias="request_timeout", ge=1)
    stop_timeout_ms: DurationMs = Field(30_000, alias="stop_timeout")
    concurrency: int | None = Field(None, ge=1, le=1024)
    max_hook_bytes: SizeBytes = Field(128 << 20, ge=1)
    endpoints: tuple[Endpoint, ...] = Field(min_length=1)
    actions: tuple[Action, ...] = ()

    @property
    def total_concurrency(self) -> int:
        """Hooks that may run at once. Unless set, enough that no action waits for another."""
        return self.concurrency or max(1, sum(action.concurrency for action in self.actions))

    @property
    def secrets(self) -> dict[str, Secret]:
        """Every secret by its place, in words such as `endpoint prembly, key live`."""
        return dict(secrets_in(self))

    @property
    def digest(self) -> str:
        """Which configuration this is: 12 hex digits, made without any secret's value."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]
