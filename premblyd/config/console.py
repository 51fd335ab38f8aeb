"""The configuration of the console: where it listens, and how people sign in."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo

from premblyd import passwords
from premblyd.config.secrets import Secret, secret
from premblyd.config.values import DurationMs, ListenValue, Model, listen


def _password(value: Any, info: ValidationInfo) -> Secret:
    """Read the hash of a password. Raise ValueError when it is none: a password itself, say."""
    found = secret(value, info)
    if found.value is not None:
        passwords.read(found.value)
    return found


def _url(text: Any) -> str:
    """Read the address under which a proxy shows the console. Raise ValueError for another."""
    url = urlsplit(str(text))
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
        raise ValueError("should be the console's own URL, such as https://premblyd.example.com")
    if url.path.strip("/") or url.query or url.fragment:
        raise ValueError("should end with the host: the console needs a name of its own, no folder")
    return f"{url.scheme}://{url.netloc}"


def _off(value: Any) -> Any:
    """Return None for `off`. (A mapping is read by its model.)"""
    if value in ("off", "no", "false"):
        return None
    if not isinstance(value, dict | Model | None):
        raise ValueError("should be off, or a mapping such as {listen: 127.0.0.1:8081}")
    return value


class Console(Model):
    """The private pages for operators."""

    listen: ListenValue = listen("127.0.0.1:8081")
    password: Annotated[Secret, PlainValidator(_password)] | None = None
    session_ms: DurationMs = Field(12 * 3_600_000, alias="session", ge=60_000)
    url: Annotated[str, BeforeValidator(_url)] | None = None
    # GET /metrics: for nobody, who is signed in, or whoever reaches the listener, as Prometheus.
    metrics: Literal["off", "private", "public"] = "private"


ConsoleValue = Annotated[Console | None, BeforeValidator(_off)]
