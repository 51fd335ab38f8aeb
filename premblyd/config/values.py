"""What all models of the configuration share, and its kinds of values: durations, sizes, names,
addresses."""

import functools
import ipaddress
import re
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainValidator

from premblyd.feature import added
from premblyd.ground import times
from premblyd.ground.expressions import Expression
from premblyd.prembly.payload import WHEN_NAMES


class Model(BaseModel):
    """A mapping of the file. It can't be changed, and no key that it does not know is taken."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        # Only the file's model is built, as it is used, with the others in it. Built one by one,
        # as they are imported, they take 20 ms of every start.
        defer_build=True,
    )


def keys_of(model: type[BaseModel]) -> Set[str]:
    """Return the keys that a mapping of the file may have."""
    return {field.alias or name for name, field in model.model_fields.items()}


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_DURATION_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_MAX_DURATION_MS = 366 * 86_400_000
LOOPBACK = ("localhost", "127.0.0.1", "::1")
DISK_PERCENT = 90  # of the database's disk: if more is used, it is a trouble


def duration_ms(text: Any) -> int:
    """Read `500ms 15s 5m 4h 30d` as milliseconds. Raise ValueError for anything else."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?) ?(ms|s|m|h|d)", str(text))
    if not match:
        raise ValueError("should be a duration such as 500ms, 15s, 5m, 4h or 30d")
    milliseconds = round(float(match[1]) * _DURATION_MS[match[2]])
    if milliseconds > _MAX_DURATION_MS:
        raise ValueError("should be at most 366d")
    return milliseconds


def duration_text(ms: int) -> str:
    """Return a duration as the file has it: 30m, 1500ms."""
    whole = (unit for unit, size in reversed(_DURATION_MS.items()) if ms >= size and ms % size == 0)
    unit = next(whole, "ms")
    return f"{ms // _DURATION_MS[unit]}{unit}"


def refused_if(is_wrong: Callable[[Any], object], words: str) -> AfterValidator:
    """Take no value that `is_wrong`: `words` tell a person why."""

    def check(value: Any) -> Any:
        if is_wrong(value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


def at_least(least_ms: int) -> AfterValidator:
    """Take durations of so many milliseconds or more only."""
    return refused_if(lambda ms: ms < least_ms, f"should be at least {duration_text(least_ms)}")


class When(NamedTuple):
    """A time that somebody typed: `at_ms`, or an age before now, by the clock that the caller
    passes."""

    text: str
    at_ms: int = 0
    ago_ms: int | None = None

    @classmethod
    def read(cls, text: str) -> "When":
        """Read an ISO date or time (UTC unless it says), or how long ago: 30m, 12h, 7d. Raise
        ValueError for anything else."""
        try:
            return cls(text, ago_ms=duration_ms(text))
        except ValueError:
            return cls(text, at_ms=times.from_iso(text))

    def __str__(self) -> str:
        return self.text

    def by(self, now_ms: int) -> int:
        return self.at_ms if self.ago_ms is None else now_ms - self.ago_ms


def size_bytes(text: Any) -> int:
    """Read `64 KiB 16 MiB` as bytes. Raise ValueError for anything else."""
    match = re.fullmatch(r"(\d{1,9}) ?(B|KiB|MiB|GiB)", str(text))
    if not match:
        raise ValueError("should be a size such as 64 KiB or 16 MiB")
    return int(match[1]) * _SIZE_BYTES[match[2]]


def network(text: Any) -> Network:
    """Read an address or a network such as 10.0.0.0/8. Raise ValueError for anything else."""
    try:
        return ipaddress.ip_network(str(text))
    except ValueError:
        raise ValueError("should be an IP address or a network such as 10.0.0.0/8") from None


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the daemon listens: a host and port, or a unix socket."""

    host: str = ""
    port: int = 0
    unix_path: str = ""

    def __str__(self) -> str:
        if self.unix_path:
            return f"unix:{self.unix_path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(text: Any) -> Listen:
    """Read `127.0.0.1:8080`, `[::1]:8080` or `unix:/path`. Raise ValueError for anything else."""
    text = str(text)
    if text.startswith("unix:/"):
        return Listen(unix_path=text.removeprefix("unix:"))
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\s/]+)):(\d{1,5})", text)
    if not match or int(match[3]) > 65535:
        raise ValueError("should be HOST:PORT, [IPV6]:PORT or unix:/path/of.sock")
    return Listen(host=match[1] or match[2], port=int(match[3]))


def sqlite_path(text: Any, folder: Path) -> Path:
    """Read `sqlite:///relative.db` or `sqlite:////absolute.db`; a relative path starts at
    `folder`, the configuration file's. Raise ValueError for anything else."""
    url = urlsplit(str(text))
    if url.scheme != "sqlite" or url.netloc or not url.path.strip("/") or url.query:
        raise ValueError("should be sqlite:////absolute/path.db")
    return folder / unquote(url.path[1:])


def shaped(pattern: str, words: str) -> AfterValidator:
    """Take text of this whole pattern only; `words` tell a person what that is."""
    compiled = re.compile(pattern, re.DOTALL)
    return refused_if(lambda text: not compiled.fullmatch(text), words)


def selecting(text: str) -> Expression:
    """Compile a `when` or `select`, and have features look at it. Raise ExpressionError when there
    is anything wrong with it."""
    expression = Expression(text, names=WHEN_NAMES)
    for check in _checks():
        check(expression)
    return expression


@functools.cache
def _checks() -> tuple[Callable[[Expression], None], ...]:
    return tuple(added("settings", "EXPRESSION_CHECKS"))


def _expression(text: Any, compiled: Callable[[str], Expression]) -> Expression:
    if not isinstance(text, str):
        raise ValueError("should be a JMESPath expression, as text")
    return compiled(text)


# BeforeValidator: after a PlainValidator, pydantic ignores a field's `ge=1`.
DurationMs = Annotated[int, BeforeValidator(duration_ms)]
AnswerWithinMs = Annotated[
    DurationMs,
    refused_if(
        lambda ms: not 500 <= ms <= 8_000,
        "should be 500ms to 8s: Prembly waits 10 s, and the network needs some",
    ),
]
SizeBytes = Annotated[int, BeforeValidator(size_bytes)]
NetworkValue = Annotated[Network, PlainValidator(network)]
ListenValue = Annotated[Listen, PlainValidator(listen)]
Select = Annotated[Expression, PlainValidator(lambda text: _expression(text, selecting))]
BodyPath = Annotated[Expression, PlainValidator(lambda text: _expression(text, Expression))]

_NOT_EMPTY = shaped(r"[^\x00]+", "should not be empty, and can't hold a NUL")
_NAME_WORDS = "should be a name of A-Z a-z 0-9 . _ - (at most 64, a letter or digit first)"
_HEADER_WORDS = "should be a header's name: letters, digits and -"
_START_WORDS = "should begin with / and be the URL's path alone, such as /webhooks/prembly"
_PATH_WORDS = "should be plain ASCII without spaces, ? and #, percent-encoded where it has others"
Name = Annotated[str, shaped(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", _NAME_WORDS)]
EnvName = Annotated[
    str,
    shaped(r"[A-Za-z_][A-Za-z0-9_]*", "should be a variable's name: A-Z a-z 0-9 _, no digit first"),
    refused_if(lambda name: name.startswith("PREMBLY_"), "names with PREMBLY_ are premblyd's"),
]
HeaderName = Annotated[str, shaped(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", _HEADER_WORDS)]
# Of an action's: else it could claim that Prembly confirmed. (To many programs _ is the same as -.)
OwnHeaderName = Annotated[
    HeaderName,
    refused_if(
        lambda name: name.lower().replace("_", "-").startswith("premblyd-"),
        "headers with premblyd- are premblyd's",
    ),
]
UrlPath = Annotated[
    str, shaped("/.*", _START_WORDS), shaped(r"[\x21-\x22\x24-\x3e\x40-\x7e]*", _PATH_WORDS)
]
_TYPE_WORDS = "should be a type such as sdk.session, or a pattern such as transaction.* or *"
TYPE_PATTERN = r"[a-z0-9_.*?-]{1,64}"
TypePattern = Annotated[str, shaped(TYPE_PATTERN, _TYPE_WORDS)]
NonEmpty = Annotated[str, _NOT_EMPTY]
_CODE_WORDS = "a response code with white space around it never matches"  # a body's is stripped
Code = Annotated[str, _NOT_EMPTY, refused_if(lambda code: code != code.strip(), _CODE_WORDS)]
