"""What a configuration file holds, as models."""

import hashlib
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from premblyd.config.alerts import Alert
from premblyd.config.console import ConsoleValue
from premblyd.config.database import DatabaseValue, HostsSettings, PostgresqlDatabase
from premblyd.config.hooks import GATHERED, HookValue, gather
from premblyd.config.inquiries import ConfirmValue, Duplicates, Pending, PremblyApi
from premblyd.config.secrets import KeyValue, Secret, secrets_in
from premblyd.config.values import (
    AnswerWithinMs,
    BodyPath,
    Code,
    DurationMs,
    HeaderName,
    ListenValue,
    Model,
    Name,
    NetworkValue,
    Select,
    SizeBytes,
    TypePattern,
    UrlPath,
    listen,
    network,
)
from premblyd.databases import DatabaseAddress
from premblyd.prembly.bodies import FieldName
from premblyd.prembly.signature import HEADER, Scheme

HEALTH_PATH = "/healthz"


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
    fields: dict[FieldName, BodyPath] = Field({})

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


class Concurrency(Model):
    """How many hooks of an action may run at once: on each host, and on all hosts together. A plain
    number is for each host."""

    host_value: int | None = Field(None, alias="host", ge=1, le=256)
    cluster: int | None = Field(None, ge=1, le=4096)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"host": value}

    @property
    def host(self) -> int:
        """How many may run on a host. Unless set, as many as on all."""
        if self.host_value is not None:
            return self.host_value
        return 4 if self.cluster is None else min(self.cluster, 256)


class Order(Model):
    """In which order an action's hook runs for events that belong together: one at a time, in the
    order of receipt. `then`: what those behind a dead one do."""

    by: Literal["reference"]
    then: Literal["continue", "wait"] = "continue"

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"by": value} if isinstance(value, str) else value


class Action(Model):
    """A reaction to events: which ones, and the hook that runs for each."""

    name: Name
    types: tuple[TypePattern, ...] = Field(("*",), min_length=1)
    response_codes: tuple[Code, ...] = Field(min_length=1)
    when: Select | None = None
    hook: HookValue = Field(alias=GATHERED)
    confirm: ConfirmValue = None  # by Prembly, before the hook runs
    once: Literal["reference"] | None = None
    order: Order | None = None
    retry: Retry = Retry()
    concurrency: Concurrency = Concurrency()
    # Whether what the hook prints may be shown to who has not said `reveal`. No part of `digest`.
    output: Literal["private", "plain"] = Field("private", repr=False)

    @model_validator(mode="before")
    @classmethod
    def _gather_hook(cls, value: Any) -> Any:
        return gather(value) if isinstance(value, dict) else value

    @property
    def then(self) -> Literal["continue", "wait"] | None:
        """What those behind a dead delivery do; None: the action has no `order`."""
        return self.order.then if self.order else None

    @cached_property
    def digest(self) -> str:
        """Which version of the action this is: 12 hex digits, made without any secret's value."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


class Config(Model):
    """A whole configuration file."""

    listen: ListenValue = listen("127.0.0.1:8080")
    database_value: DatabaseValue = Field(alias="database")
    hosts: HostsSettings = HostsSettings()
    max_body_bytes: SizeBytes = Field(16 << 20, alias="max_body", ge=1)
    trusted_proxies: tuple[NetworkValue, ...] = (network("127.0.0.1"), network("::1"))
    log: LogSettings = LogSettings()
    max_in_flight_bytes: SizeBytes = Field(64 << 20, ge=1)
    max_in_flight_requests: int = Field(1000, ge=1)
    request_timeout_ms: DurationMs = Field(30_000, alias="request_timeout", ge=1)
    answer_within_ms: AnswerWithinMs = Field(8_000, alias="answer_within")
    stop_timeout_ms: DurationMs = Field(30_000, alias="stop_timeout")
    concurrency: int | None = Field(None, ge=1, le=1024)
    max_hook_bytes: SizeBytes = Field(128 << 20, ge=1)
    duplicates: Duplicates = Duplicates()
    prembly: PremblyApi | None = None
    pending: Pending | None = None
    console: ConsoleValue = None
    endpoints: tuple[Endpoint, ...] = Field(min_length=1)
    actions: tuple[Action, ...] = ()
    alerts: tuple[Alert, ...] = ()

    @property
    def database(self) -> DatabaseAddress:
        """Where the record is."""
        value = self.database_value
        return value.server if isinstance(value, PostgresqlDatabase) else value

    @property
    def total_concurrency(self) -> int:
        """Hooks that may run at once. Unless set, enough that no action waits for another."""
        return self.concurrency or max(1, sum(action.concurrency.host for action in self.actions))

    @cached_property
    def secrets(self) -> dict[str, Secret]:
        """Every secret by its place, in words such as `endpoint prembly, key live`."""
        return dict(secrets_in(self))
