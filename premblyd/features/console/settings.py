"""The console, and how people sign in to it."""

from enum import StrEnum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from premblyd.config.keys import Section
from premblyd.config.secrets import Secret, shaped
from premblyd.config.values import (
    DurationMs,
    HeaderName,
    ListenValue,
    Model,
    at_least,
    listen,
    refused_if,
)

MIN_SECRET = 16  # characters
ANYBODY = "*"
SECRET_HEADER = "X-Premblyd-Proxy"  # noqa: S105 (its name)


class Role(StrEnum):
    """What somebody who is signed in may do."""

    LOOK = "look"  # at every page, without personal data
    OPERATE = "operate"  # all: reveal personal data, which is on record, replay, cancel, pause


RoleValue = Annotated[Role, Field(strict=False)]


_LONG_WORDS = f"should have at least {MIN_SECRET} characters: `openssl rand -hex 32` prints some"
_HEADER_WORDS = "should be the header that names who asks; this one has the secret"


def _console_url(text: Any) -> str:
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


class SignInProxy(Model):
    """A proxy that signs people in itself. It says in `header` who asks, and proves by `secret`
    that it is the proxy: whoever is on this machine could send that header too."""

    header: Annotated[
        HeaderName, refused_if(lambda name: name.lower() == SECRET_HEADER.lower(), _HEADER_WORDS)
    ]
    secret: Annotated[Secret, shaped(f".{{{MIN_SECRET},}}", _LONG_WORDS)]
    roles: dict[str, RoleValue] = Field(min_length=1)  # by names; `*` is anybody else

    def role_of(self, person: str) -> Role | None:
        """Return the role of somebody whom the proxy has let in; None: they have none here."""
        return self.roles.get(person, self.roles.get(ANYBODY))


class Console(Model):
    """The private pages for operators."""

    listen: ListenValue = listen("127.0.0.1:8081")
    proxy: SignInProxy | None = None
    session_ms: Annotated[DurationMs, at_least(60_000)] = Field(12 * 3_600_000, alias="session")
    url: Annotated[str, BeforeValidator(_console_url)] | None = None
    # GET /metrics: for nobody, who is signed in, or whoever reaches the listener, as Prometheus.
    metrics: Literal["off", "private", "public"] = "private"


ConsoleValue = Annotated[Console | None, BeforeValidator(_off)]
CONSOLE: Section[Console | None] = Section(
    "console",
    ConsoleValue,
    None,
    only_at_start=lambda console: console and console.listen,
    reloads=lambda console: (console or Console()).model_copy(update={"listen": None}),
)
SECTIONS = (CONSOLE,)
