"""What an action runs: a model for each kind of hook.

A new kind is a model here, a module in run/ that runs it, and a row in run/kinds.py; or a feature's
settings.py, a module of it, and its kinds.py.
"""

import base64
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationInfo,
    model_validator,
)

from premblyd.config.secrets import Secret, SecretValue, checked, shaped
from premblyd.config.values import (
    DurationMs,
    EnvName,
    Model,
    NonEmpty,
    OwnHeaderName,
    Select,
    keys_of,
)
from premblyd.ground.words import listed
from premblyd.prembly.payload import WHEN_NAMES

# The key under which a hook's keys are gathered. The file can't have it: there they stand among
# the action's own keys.
GATHERED = "(hook)"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SIGNING_PREFIX = "whsec_"
MIN_SIGNING_BYTES = 16
_PROXY_URL = r"(http|socks5h)://([^\s/@]+@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?/?"


class Hook(Model):
    """What an action runs. `key` is the action's key that chooses the kind.

    A kind with a field for that key has all its fields beside it, in the action; any other has
    them in the mapping under the key.
    """

    key: ClassVar[str]
    timeout_ms: DurationMs = Field(30_000, alias="timeout", ge=1)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if "key" in vars(cls):
            KINDS[cls.key] = cls

    @classmethod
    def is_nested(cls) -> bool:
        """Return whether the fields stand in a mapping of their own."""
        return cls.key not in keys_of(cls)

    @classmethod
    def keys_in_action(cls) -> Set[str]:
        """Return the action's keys that are this hook's."""
        return {cls.key} if cls.is_nested() else keys_of(cls)

    @property
    def longest_ms(self) -> int:
        """How long a run takes at most."""
        return self.timeout_ms

    @property
    def program(self) -> str | None:
        """The program that the hook starts; None if it starts none, or if that can't be seen."""
        return None

    @property
    def gets_body(self) -> bool:
        """Whether the hook gets the body, or anything that is read from it at the run."""
        return True


KINDS: dict[str, type[Hook]] = {}  # by their keys, in the order of their models


class ProcessHook(Hook):
    """A hook that starts a process."""

    env: dict[EnvName, SecretValue] = Field({})


class ShellHook(ProcessHook):
    """A line for /bin/sh."""

    key = "shell"
    shell: NonEmpty

    @property
    def program(self) -> str | None:
        """The line's first word, where it is a plain absolute path."""
        first = self.shell.split(maxsplit=1)[:1]
        return first[0] if first and re.fullmatch(r"/[\w./+-]+", first[0]) else None


class CommandHook(ProcessHook):
    """A program and its arguments, without a shell."""

    key = "command"
    command: tuple[NonEmpty, ...] = Field(min_length=1)

    @property
    def program(self) -> str | None:
        return self.command[0]


def signing_key(secret: str) -> bytes:
    """Return the key within a secret of Standard Webhooks, `whsec_` and base64. Raise ValueError
    with words for its owner when it is none."""
    try:
        key = base64.b64decode(secret.removeprefix(SIGNING_PREFIX), validate=True)
    except ValueError:
        raise ValueError("should be a Standard Webhooks secret, whsec_<base64>") from None
    if len(key) < MIN_SIGNING_BYTES:
        raise ValueError("the signing secret is too short: at least 16 bytes, better 32")
    return key


_URL_WORDS = "should be a URL that starts with http:// or https://"
_PROXY_WORDS = "should be http://HOST:PORT or socks5h://HOST:PORT"
UrlValue = Annotated[Secret, shaped("https?://.*", _URL_WORDS)]  # many chat systems' are secrets
ProxyValue = Annotated[Secret, shaped(_PROXY_URL, _PROXY_WORDS)]  # it may have a password
SigningValue = Annotated[Secret, checked(lambda secret: signing_key(secret.reveal()))]


class Selection(Model):
    """What leaves the machine, chosen by a JMESPath expression."""

    select: Select


# Tagged, so that pydantic reports only the problems of the form that was meant.
Send = Annotated[
    Annotated[Literal["raw", "event"], Tag("send:word")]
    | Annotated[Selection, Tag("send:selection")],
    Discriminator(lambda value: "send:selection" if isinstance(value, dict) else "send:word"),
]


class HttpHook(Hook):
    """A POST to a URL."""

    key = "http"
    url: UrlValue
    headers: dict[OwnHeaderName, SecretValue] = Field({})
    sign_with: SigningValue | None = None
    send: Send = "raw"
    timeout_ms: DurationMs = Field(15_000, alias="timeout", ge=1)
    ca_file: Path | None = None
    proxy: ProxyValue | None = None  # http_proxy is not obeyed

    @property
    def gets_body(self) -> bool:
        return not isinstance(self.send, Selection) or "body" in self.send.select.looks_at(
            WHEN_NAMES
        )


def kinds_in(action: Mapping[str, Any]) -> list[type[Hook]]:
    """Return the kinds that the keys of an action choose: one, if it is right."""
    return [kind for key, kind in KINDS.items() if key in action]


def gather(action: Mapping[str, Any]) -> dict[str, Any]:
    """Return an action's keys and values with those of its hook gathered under one key."""
    kinds = kinds_in(action)
    # Without exactly one kind, it is not known which keys are the hook's: those of every kind are.
    kinds = kinds if len(kinds) == 1 else list(KINDS.values())
    of_hook = {key for kind in kinds for key in kind.keys_in_action()}
    hook = {key: value for key, value in action.items() if key in of_hook}
    return {key: value for key, value in action.items() if key not in of_hook} | {GATHERED: hook}


def _read_hook(gathered: Mapping[str, Any], info: ValidationInfo) -> Hook:
    kinds = kinds_in(gathered)
    if len(kinds) != 1:
        raise ValueError(f"should have one of {listed(KINDS)}, not {len(kinds)}")
    (kind,) = kinds
    fields = gathered[kind.key] if kind.is_nested() else gathered
    return kind.model_validate(fields, context=info.context)


class WithHook(Model):
    """What runs a hook, whose keys stand among its own."""

    hook: Annotated[Hook, PlainValidator(_read_hook)] = Field(alias=GATHERED)

    @model_validator(mode="before")
    @classmethod
    def _gather_hook(cls, value: Any) -> Any:
        return gather(value) if isinstance(value, dict) else value


def lacks_program(place: str, hook: Hook) -> Iterator[str]:
    """Yield that the program of a hook is not there."""
    program = hook.program
    if program and not shutil.which(program, path=os.environ.get("PATH", DEFAULT_PATH)):
        yield f"{place}: {program} is not an executable here"
