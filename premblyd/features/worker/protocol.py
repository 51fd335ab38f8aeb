"""The lines that premblyd and a worker process exchange, as pure functions. docs/worker-protocol.md
explains them."""

import base64
import functools
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from premblyd import __version__
from premblyd.features.worker.settings import WorkerHook
from premblyd.ground import jsontext, times
from premblyd.ground.errors import PremblydError
from premblyd.prembly import bodies
from premblyd.run.kinds import Invocation
from premblyd.run.shell import environment

VERSION = 1
MAX_LINE_BYTES = 64 << 10  # of what a worker writes
_UNNUMBERED = len(b'{"number":0')
_NUMBER = rb"[1-9][0-9]{0,17}"
_READY = re.compile(rb"ready +([0-9]{1,9})(?: .*)?", re.DOTALL)
_ANSWER = re.compile(rb"([a-z]+)(?: +(%b))?(?: +(.*))?" % _NUMBER, re.DOTALL)
_SECONDS = re.compile(rb"([0-9]{1,11}(?:\.[0-9]{1,9})?)(?: +(.*))?", re.DOTALL)


class ProtocolError(PremblydError):
    """A worker's line is none of the protocol's. The text says what is wrong with it, and quotes
    nothing of it."""


class AnswerKind(StrEnum):
    """What a worker answers to a line."""

    OK = "ok"
    RETRY = "retry"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a worker answered to line `number`. `after_s`: not tried again before. `words`: what it
    adds for people; they may be about a person."""

    kind: AnswerKind
    number: int
    after_s: float = 0
    words: str = ""


def hello(action: str) -> bytes:
    """Return the first line that a worker of `action` gets."""
    return jsontext.dumps({"premblyd": VERSION, "version": __version__, "action": action}) + b"\n"


def require_ready(line: bytes) -> None:
    """Raise ProtocolError when a worker's first line does not say that it is ready, or is of a
    protocol that premblyd does not speak. Further words are of a later version."""
    found = _READY.fullmatch(line.rstrip())
    if not found:
        raise ProtocolError(f"its first line is not `ready {VERSION}`")
    if int(found[1]) != VERSION:
        raise ProtocolError(f"it does not speak version {VERSION} of the worker protocol")


def delivery_line(number: int, invocation: Invocation) -> bytes:
    """Return the line that tells a worker of a run, its line `number`."""
    webhook, told = invocation.webhook, invocation.environment
    about: dict[str, Any] = {
        "number": number,
        **{_name(name): None if value == "" else value for name, value in told.items()},
        "id": invocation.id,
    }
    if webhook is not None:
        verdict = webhook.verdict
        about |= {
            **{f"{name}_fields": facts for name, facts in invocation.vouched.items()},
            "erased": invocation.is_erased,
            "received_at": times.iso(webhook.received_at_ms),
            "detail": verdict.detail,
            "verification_status": verdict.verification_status,
        }
    body = None if invocation.is_erased else invocation.body
    own = b"null" if body is None else bodies.embedded(body)
    if own is None:
        about["body_base64"] = base64.b64encode(invocation.body).decode("ascii")
        own = b"null"
    else:
        about["body_base64"] = None
    line = b'%b,"body":%b}\n' % (jsontext.dumps(about)[:-1], own)
    return line if line.isascii() else _without_other_ends(line)


def numbered(number: int, line: bytes) -> bytes:
    """Return a line that was made with the number 0 with its own: a line takes a while to make, and
    only then it is known which process gets it."""
    return b'{"number":%d%b' % (number, line[_UNNUMBERED:])


def read_answer(line: bytes) -> Answer:
    """Read an answer of a worker, whatever its bytes. Raise ProtocolError when it is none."""
    if len(line) > MAX_LINE_BYTES:
        raise ProtocolError(f"its line is over {MAX_LINE_BYTES >> 10} KiB")
    found = _ANSWER.fullmatch(line.rstrip())
    if not found or found[1] not in _KINDS:
        raise ProtocolError(f"its line does not begin with one of {', '.join(AnswerKind)}")
    kind, number, rest = _KINDS[found[1]], found[2], found[3]
    if number is None:
        raise ProtocolError(f"`{kind}` has no line's number behind it")
    after_s = 0.0
    if kind is AnswerKind.RETRY:
        seconds = _SECONDS.fullmatch(rest or b"")
        if not seconds:
            raise ProtocolError("`retry` has no seconds behind the line's number")
        after_s, rest = float(seconds[1]), seconds[2]
    words = (rest or b"").decode("utf-8", "replace")
    return Answer(kind=kind, number=int(number), after_s=after_s, words=words)


_KINDS = {kind.value.encode(): kind for kind in AnswerKind}


@functools.cache
def _name(variable: str) -> str:
    """Return the name in the line of what is PREMBLY_… or PREMBLYD_… in the environment."""
    return variable.partition("_")[2].lower()


def _without_other_ends(line: bytes) -> bytes:
    """Write as escapes what Node's readline and Java's Scanner take for the end of a line. In JSON
    it stands within texts alone."""
    for end in "\u0085\u2028\u2029":
        line = line.replace(end.encode(), b"\\u%04x" % ord(end))
    return line


def preview(hook: WorkerHook, invocation: Invocation) -> dict[str, Any]:
    """Return the exact command, environment and lines, for `explain`."""
    about = {"PREMBLYD_WORKER_IN": 3, "PREMBLYD_WORKER_OUT": 4}
    lines = (hello(invocation.action), delivery_line(1, invocation))
    return {
        "worker": list(hook.worker),
        "environment": environment(hook, about, os.environ),
        "lines": [line.decode().rstrip() for line in lines],
    }
