"""Workers that misbehave, as programs, and what may become of what they get."""

import sys
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from tests.support.configuration import ONCE

EACH = 3  # deliveries that each gets
POISON = 1  # the number in the body that kills one who reads it
SPILLED = "spilled-by-a-worker"  # what no log and no error may quote


class Ends(Enum):
    """How the deliveries of a hostile worker end, each of which has one attempt."""

    SUCCEEDED = auto()
    DEAD = auto()
    EITHER = auto()
    POISONED = auto()  # one dead, its neighbours succeeded
    ANYHOW = auto()  # or not at all: it dies before it gets any


@dataclass(frozen=True, slots=True)
class Hostile:
    """A worker's program, after `PRELUDE`, and what its action has beside it."""

    program: str
    ends: Ends
    settings: dict[str, Any] = field(default_factory=dict)


# `take` returns the number of the next line; at the end of its input a worker ends. Each writes
# down what it gets.
PRELUDE = """
import json, os, signal, subprocess, sys, time
word, runs, name = sys.argv[1:4]
runs = os.open(runs, os.O_WRONLY | os.O_APPEND)
left, given = b"", {}
def say(text):
    os.write(4, text.encode() + b"\\n")
def ready():
    line()
    say("ready 1")
def line():
    global left
    while b"\\n" not in left:
        if not (chunk := os.read(3, 1 << 16)):
            sys.exit()
        left += chunk
    whole, _, left = left.partition(b"\\n")
    return json.loads(whole)
def take():
    global given
    given = line()
    os.write(runs, f"{name} {given['delivery']} {given['attempt']}\\n".encode())
    return given["number"]
def hang():
    while True:
        time.sleep(100)
def child(**more):
    return subprocess.Popen(["sleep", word], **more)
"""
_SILENT = {"timeout": "1s"}


def _each(*statements: str) -> str:
    """Return a program that is ready, and does this for each number `n` that it takes."""
    body = "".join(f"    {statement}\n" for statement in ("n = take()", *statements))
    return f"ready()\nwhile True:\n{body}"


def _answering(*statements: str, **settings: Any) -> Hostile:
    return Hostile(_each(*statements), Ends.SUCCEEDED, settings)


def _failing(*statements: str, **settings: Any) -> Hostile:
    return Hostile(_each(*statements), Ends.DEAD, settings)


def _hanging(*statements: str, **settings: Any) -> Hostile:
    """Return one that is silent until its time is up."""
    return Hostile(_each(*statements), Ends.DEAD, _SILENT | settings)


def _never_working(program: str, **settings: Any) -> Hostile:
    return Hostile(program, Ends.DEAD, settings)


_OK = "say(f'ok {n}')"
HOSTILE = {
    "never reads": Hostile("ready(); hang()", Ends.DEAD, _SILENT),
    "never answers": _hanging(),
    "answers without an end of line": _hanging("os.write(4, b'ok %d' % n)", "hang()"),
    "answers twice": Hostile(_each(_OK, _OK), Ends.EITHER),
    "answers for an earlier number": Hostile(_each(_OK, "say('dead 1 late')"), Ends.EITHER),
    "answers for a number that was never given": _failing("say(f'ok {n + 1000}')", "hang()"),
    "answers for no number": _failing("say('ok')", "hang()"),
    "answers for a negative number": _failing("say('ok -1')", "hang()"),
    "answers for an endless number": _failing("say('ok ' + '9' * 5000)", "hang()"),
    "answers before it is asked": Hostile("ready(); say('ok 1'); hang()", Ends.ANYHOW, _SILENT),
    "answers with garbage": _failing(
        f"os.write(4, b'\\xff\\0 {SPILLED} ' + bytes(range(32)) + b'\\n')", "hang()"
    ),
    "answers with another word": _failing(f"say(f'okay {{n}} {SPILLED}')", "hang()"),
    "answers with an endless line": _failing("while True: os.write(4, b'x' * 65536)"),
    "answers with endless words": _failing("while True: os.write(4, f'ok {n} '.encode() * 9999)"),
    "asks for a retry in no number": _failing(f"say(f'retry {{n}} soon {SPILLED}')", "hang()"),
    "asks for a retry in an endless time": Hostile(
        _each("say(f'retry {n} ' + '9' * 400)"), Ends.DEAD
    ),
    "asks for a retry before now": Hostile(_each("say(f'retry {n} -5')"), Ends.DEAD),
    "says that it is dead": _failing(f"say(f'dead {{n}} {SPILLED}')"),
    "answers a part at a time": _answering(
        "for byte in f'ok {n}\\n'.encode(): os.write(4, bytes([byte])); time.sleep(0.01)"
    ),
    "has a child that answers": _answering("if os.fork() == 0: say(f'ok {n}'); os._exit(0)"),
    "dies with each": _failing("os._exit(3)"),
    "dies with each by SIGKILL": _failing("os.kill(os.getpid(), signal.SIGKILL)"),
    "dies after two": Hostile(_each(_OK, "if n > 2: os._exit(3)"), Ends.SUCCEEDED),
    "dies with the third": Hostile(_each("if n > 2: os._exit(3)", _OK), Ends.EITHER),
    "answers and dies": _answering(_OK, "os._exit(1)"),
    "dies of one body": Hostile(
        _each(f"if given['body']['n'] == {POISON}: os._exit(4)", _OK), Ends.POISONED
    ),
    "stops itself": _hanging("os.kill(os.getpid(), signal.SIGSTOP)"),
    "closes what it answers by": _hanging("os.close(4)", "hang()"),
    "closes what it reads": Hostile(_each(_OK, "os.close(3)", "hang()"), Ends.EITHER, _SILENT),
    "leaves a child with its descriptors": _answering("child(pass_fds=(3, 4))", _OK),
    "leaves a child with its descriptors, and dies": _failing(
        "child(pass_fds=(3, 4), start_new_session=True)", "os._exit(5)"
    ),
    "leaves a child in another session": _answering("child(start_new_session=True)", _OK),
    "leaves a child that stops itself": _answering(
        "os.kill(child(start_new_session=True).pid, signal.SIGSTOP)", _OK
    ),
    "prints before it is ready": Hostile(
        f"os.write(1, b'{SPILLED}' * 9999)\n" + _each(_OK), Ends.SUCCEEDED
    ),
    "prints everywhere": _answering(
        f"os.write(1, b'{SPILLED}' * 9999)", f"os.write(2, b'{SPILLED}' * 9999)", _OK
    ),
    "prints for ever": _answering(f"subprocess.Popen(['yes', word, '{SPILLED}'])", _OK),
    "ignores SIGTERM and the end of its work": _answering(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)", _OK, "if n == 1: child(pass_fds=(3, 4))"
    ),
    "ignores SIGTERM and never ends": Hostile(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntry:\n    ready()\n"
        f"    while True: n = take(); {_OK}\nfinally: hang()",
        Ends.SUCCEEDED,
    ),
    "ignores SIGTERM and never answers": _hanging("signal.signal(signal.SIGTERM, signal.SIG_IGN)"),
    "dies at once": _never_working("os._exit(1)"),
    "dies of SIGSEGV at once": _never_working("os.kill(os.getpid(), signal.SIGSEGV)"),
    "is not there": _never_working("", worker=["/nowhere/worker"]),
    "is no program": _never_working("", worker=["/etc/passwd"]),
    "is never ready": _never_working("hang()", start_timeout="1s"),
    "is never ready and ignores SIGTERM": _never_working(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); hang()", start_timeout="1s"
    ),
    "is ready without an end of line": _never_working(
        "os.write(4, b'ready 1'); hang()", start_timeout="1s"
    ),
    "is of another version": _never_working("say('ready 2'); hang()"),
    "says garbage before it is ready": _never_working(f"say('{SPILLED}'); ready(); hang()"),
    "says an endless line before it is ready": _never_working(
        "while True: os.write(4, b'x' * 65536)"
    ),
    "leaves a child and dies at once": _never_working(
        "child(pass_fds=(3, 4), start_new_session=True); os._exit(1)"
    ),
    "is ready and dies": Hostile("ready(); os._exit(1)", Ends.ANYHOW),
}
# Without a mark only the parent tells whose they are, and a kill -9 takes that away.
UNMARKED = {
    "leaves a child that dropped its environment": _answering(
        "child(env={}, start_new_session=True)", _OK
    )
}


def action(
    number: int, hostile: Hostile, *, word: str, runs: object, **more: Any
) -> dict[str, Any]:
    """Return an action for a response code of its own. `word` marks its processes."""
    name = f"hostile-{number}"
    program = [sys.executable, "-I", "-S", "-c", PRELUDE + hostile.program, word, str(runs), name]
    own = {"name": name, "response_codes": [str(number)], "retry": ONCE}
    return own | {"worker": program, "env": {"WORD": word}} | hostile.settings | more
