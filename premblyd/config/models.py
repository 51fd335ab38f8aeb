"""The configuration as models: begin with Config. Hooks are in a file of their own; what features
add is in their settings.py, and load.py puts all together."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    PlainValidator,
    ValidationInfo,
    model_validator,
)

from premblyd.config.hooks import WithHook
from premblyd.config.secrets import KeyValue, secret_places
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
    sqlite_path,
)
from premblyd.feature import added
from premblyd.ground.databases import DatabaseAddress
from premblyd.prembly.bodies import FieldName
from premblyd.prembly.signature import HEADER, Encoding, Form, Scheme

HEALTH_PATH = "/healthz"


class LogSettings(Model):
    """How the daemon logs. `auto`: colours on a terminal, JSON lines otherwise."""

    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class SignatureForm(Model):
    """How a signature is made and written. `header`: None is the endpoint's."""

    algorithm: Literal["sha256", "sha512"] = "sha256"
    encoding: Encoding = "base64"
    prefix: Annotated[str, Field(max_length=32)] = ""
    header: HeaderName | None = None


class Endpoint(Model):
    """A URL path on which Prembly's webhooks arrive. `signature`: any of these forms is right."""

    name: Name
    path: UrlPath
    scheme: Literal["hmac", "public-key"] = "hmac"
    header: HeaderName = HEADER
    signature: tuple[SignatureForm, ...] = Field((SignatureForm(),), min_length=1)
    keys: dict[Name, KeyValue] = Field(min_length=1)
    require_token: bool = False
    allow_ips: tuple[NetworkValue, ...] = ()
    fields: dict[FieldName, BodyPath] = Field({})

    @model_validator(mode="after")
    def _has_one_scheme(self) -> Self:
        if self.scheme == "public-key" and "signature" in self.model_fields_set:
            raise ValueError("has `scheme: public-key` and `signature`; keep one")
        return self

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """The forms in which a signature may come, the first as `send` makes it."""
        if self.scheme == "public-key":
            return (Form(Scheme.PUBLIC_KEY, header=self.header),)
        return tuple(
            Form(Scheme(f"hmac-{of.algorithm}"), of.encoding, of.prefix, of.header or self.header)
            for of in self.signature
        )

    def taking(self, form: Form) -> str:
        """Return the line of YAML that has the endpoint take this form too."""
        more = SignatureForm(
            algorithm="sha512" if form.scheme is Scheme.HMAC_SHA512 else "sha256",
            encoding=form.encoding,
            prefix=form.prefix,
            header=None if form.header == self.header else form.header,
        )
        said = [each.model_dump(exclude_defaults=True) for each in (*self.signature, more)]
        # As JSON, which is YAML too, whatever a header's name has in it.
        return f"signature: {json.dumps(said)}"

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


class Action(WithHook):
    """A reaction to events: which ones, and the hook that runs for each. Of the core alone."""

    name: Name
    types: tuple[TypePattern, ...] = Field(("*",), min_length=1)
    response_codes: tuple[Code, ...] = Field(min_length=1)
    when: Select | None = None
    retry: Retry = Retry()
    concurrency: Concurrency = Concurrency()
    # Whether what the hook prints may be shown to who has not said `reveal`. No part of `digest`.
    output: Literal["private", "plain"] = Field("private", repr=False)

    @cached_property
    def digest(self) -> str:
        """Which version of the action this is: 12 hex digits, made without any secret's value, of
        what differs from the defaults. So a new key of premblyd's changes no digest."""
        return hashlib.sha256(_differing(self).encode()).hexdigest()[:12]


def _differing(value: Any) -> str:
    """Return as text what of a value differs from the defaults, its keys sorted."""
    if isinstance(value, BaseModel):
        fields = sorted(type(value).model_fields.items())
        said = {
            name: getattr(value, name)
            for name, field in fields
            if field.repr and getattr(value, name) != field.get_default(call_default_factory=True)
        }
        return f"{type(value).__name__}({_differing(said)})"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_differing(each)}" for name, each in sorted(value.items()))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_differing, value))}]"
    return repr(value)


def _path(value: Any, info: ValidationInfo) -> Path:
    return sqlite_path(value, secret_places(info).folder)


class Duplicates(Model):
    """Which webhooks are the same event. `body`: those with the same body, if it has an id.
    `token`: those with the same token too."""

    by: Literal["body", "token"] = "body"


class Config(Model):
    """A whole configuration file, of the core alone."""

    listen: ListenValue = listen("127.0.0.1:8080")
    database_value: Annotated[Any, PlainValidator(_path)] = Field(alias="database")
    max_body_bytes: SizeBytes = Field(16 << 20, alias="max_body", ge=1)
    trusted_proxies: tuple[NetworkValue, ...] = (network("127.0.0.1"), network("::1"))
    log: LogSettings = LogSettings()
    max_in_flight_bytes: SizeBytes = Field(64 << 20, ge=1)
    max_in_flight_requests: int = Field(1000, ge=1)
    request_timeout_ms: DurationMs = Field(30_000, alias="request_timeout", ge=1)
    answer_within_ms: AnswerWithinMs = Field(8_000, alias="answer_within")
    stop_timeout_ms: DurationMs = Field(30_000, alias="stop_timeout")
    concurrency: int | None = Field(None, ge=1, le=65_536)
    max_hook_bytes: SizeBytes = Field(128 << 20, ge=1)
    duplicates: Duplicates = Duplicates()
    endpoints: tuple[Endpoint, ...] = Field(min_length=1)
    actions: tuple[Action, ...] = ()

    @property
    def database(self) -> DatabaseAddress:
        """Where the record is."""
        found = (address_of(self) for address_of in added("settings", "ADDRESSES"))
        address: DatabaseAddress = next(filter(None, found), self.database_value)
        return address

    @property
    def logs_references(self) -> bool:
        """Whether the log names verifications: not if it might outlast what names a person."""
        return all(logs_them(self) for logs_them in added("settings", "LOGS_REFERENCES"))

    @property
    def total_concurrency(self) -> int:
        """How many deliveries may run at once. Unless set, enough that no action waits for
        another."""
        return self.concurrency or max(1, sum(action.concurrency.host for action in self.actions))

    @property
    def plain_actions(self) -> list[str]:
        """The actions with `output: plain`: everybody with access sees their output."""
        return [action.name for action in self.actions if action.output == "plain"]
