"""Signed bodies that are much work to read, and expressions that are much work over them.

    python -m tests.faults.bodies [--mib 16] [--rounds 2]

While they come and their hooks run, something cheap is asked for all the time: the longest that
it waits is the longest that the loop stood still.
"""

import argparse
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import campaigns
from tests.faults.daemon import UNFINISHED, folder, table
from tests.support.configuration import ONCE
from tests.support.daemon import Premblyd
from tests.support.http_server import serving
from tests.support.requests import request
from tests.support.waiting import wait_until

MIB = 1 << 20
ASK_EVERY_S = 0.005
HELD_MS = 100.0  # of the processor; reading one such body on the loop takes more
STILL_MS = 200.0  # no body and no expression keeps anyone waiting for longer
DOUBLED = " | ".join(["[@, @]"] * 40)
# Each is cheap over a body of Prembly's; here it meets lists of a hundred thousand.
EXPENSIVE = {
    "walk": "length(body.a[?@ == `[]`][]) > `0`",
    "sort": "sort_by(body.a, &to_string(@))[0]",
    "again": "body.a[*].[@, @, @, @] | [*].[@, @] | [][] | length(@) > `1`",
    "text": "contains(to_string(body), 'x')",
    "doubled": f"(body | {DOUBLED}) == (body | {DOUBLED})",
    "joined": "length(join(body.a[0], map(&to_string(@), body.a))) > `1`",
}
SELECTED = {"again": "body.a[*].{a: @, b: [@, @]}", "doubled": f"body | {DOUBLED}"}


def hostile(size: int) -> dict[str, bytes]:
    """Return bodies of about `size` bytes, by what they are full of."""
    filled = {
        "text": b'"%b"' % (b"x" * (size - 8)),
        "escapes": b'"%b"' % (b"\\u00e9" * (size // 6)),
        "halves": b'"%b"' % (b"\\ud800" * (size // 6)),
        "empty lists": b"[%b[]]" % (b"[]," * (size // 3)),
        "empty objects": b"[%b{}]" % (b"{}," * (size // 3)),
        "small numbers": b"[%b1]" % (b"1," * (size // 2)),
        "long numbers": b"[%b1]" % ((b"9" * 4000 + b",") * (size // 4001)),
        "long fractions": b"[%b1]" % ((b"1" * 60 + b"e-340,") * (size // 66)),
        "keys": b"{%b}" % b",".join(b'"%06d":1' % number for number in range(size // 12)),
        "depth": b"[" * (size // 2) + b"]" * (size // 2),
    }
    # What is just few enough to be read, and then meets the expressions.
    filled["200,000 lists"] = b"[%b[]]" % (b"[]," * 100_000)
    return {name: b'{"a":' + value + b"}" for name, value in filled.items()}


def _actions(url: str) -> list[dict[str, Any]]:
    always: dict[str, Any] = {"response_codes": ["*"], "retry": ONCE}
    whens = [
        {"name": f"when-{name}", "command": ["true"], "when": when, **always}
        for name, when in EXPENSIVE.items()
    ]
    sends: dict[str, Any] = {
        "raw": "raw",
        "event": "event",
        **{name: {"select": text} for name, text in SELECTED.items()},
    }
    posts = [
        {"name": f"send-{name}", "http": {"url": url, "send": send, "timeout": "60s"}, **always}
        for name, send in sends.items()
    ]
    return [*whens, *posts]


# Run in the daemon: what each of the loop's steps takes of the processor, if that is much.
WATCH = """
import asyncio.events, sys, time
run = asyncio.events.Handle._run
def watched(self):
    begun = time.thread_time()
    run(self)
    took_ms = (time.thread_time() - begun) * 1000
    if took_ms > 5:
        sys.stderr.write('{"event": "loop.held", "ms": %.1f}\\n' % took_ms)
asyncio.events.Handle._run = watched
"""


@dataclass(frozen=True, slots=True)
class Stood:
    """How long the loop stood still for one kind of body."""

    waited_ms: float  # what somebody else waited at most, by the clock: a busy machine's too
    held_ms: float  # the longest step of the loop, by its own processor time


@contextmanager
def _asking(address: str) -> Iterator[Callable[[], float]]:
    """Ask for what only the loop answers, in a process of its own. What is yielded returns the
    longest wait since it was called before."""
    command = [sys.executable, "-m", "tests.faults.bodies", "--ask", address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
        if asking.stdout is None or asking.stdin is None:
            raise OSError("no pipes")
        told, questions = asking.stdout, asking.stdin

        def longest_ms() -> float:
            questions.write(b"\n")
            questions.flush()
            return float(told.readline())

        longest_ms()  # it has begun
        yield longest_ms


def ask(address: str) -> None:
    """Ask until standard input ends, and print the longest wait in ms for each line of that."""
    longest_ms = 0.0
    while True:
        if select.select([sys.stdin], [], [], ASK_EVERY_S)[0]:
            if not sys.stdin.readline():
                return
            print(longest_ms, flush=True)
            longest_ms = 0.0
        begun = time.monotonic()
        request(address, "GET", "/nothing", b"", {})
        longest_ms = max(longest_ms, (time.monotonic() - begun) * 1000)


def endure(
    at: Path, size: int, rounds: int, *, is_asked: bool = True
) -> tuple[dict[str, Stood], list[str]]:
    """Send every body `rounds` times. Return how long the loop stood still, and what is wrong.
    Unless it `is_asked`, nothing is known of how long somebody else waits."""
    stood: dict[str, Stood] = {}
    problems = []
    with (
        serving() as server,
        Premblyd(at, actions=_actions(server.url), duplicates={"by": "token"}) as daemon,
    ):
        daemon.start(before=WATCH)
        asking = _asking(daemon.address) if is_asked else nullcontext(lambda: 0.0)
        with asking as longest_ms:
            for name, body in {"nothing": b'{"reference":"first"}', **hostile(size)}.items():
                before = len(daemon.log("loop.held"))
                for number in range(rounds):
                    status = daemon.send(body, token=f"{name}-{number}").status
                    if status != 200:
                        problems.append(f"{name}: answered {status}")
                wait_until(lambda: not daemon.rows(UNFINISHED)[0][0])
                held = [line["ms"] for line in daemon.log("loop.held")[before:]]
                stood[name] = Stood(longest_ms(), max(held, default=0.0))
                server.requests.clear()
        (stored,) = daemon.rows("SELECT count(*) FROM event")[0]
        if stored != rounds * len(stood):
            problems.append(f"{stored} events are stored")
        failed = {line["error"] for line in daemon.log("action.when_failed")}
        if "too many steps" not in failed:
            problems.append("no expression took too many steps")
        if daemon.stop() != 0:
            problems.append("it did not stop cleanly")
    return stood, problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ask", metavar="ADDRESS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask:
        return ask(arguments.ask)
    with folder() as at:
        stood, problems = endure(at, arguments.mib * MIB - 64, arguments.rounds)
    for name, figures in stood.items():
        table({f"{name}: somebody waits, ms": round(figures.waited_ms, 1)})
        table({f"{name}: the loop's longest step, ms": figures.held_ms})
        if figures.held_ms > HELD_MS:
            problems.append(f"{name}: the loop was held for {figures.held_ms:.0f} ms")
        if figures.waited_ms > STILL_MS:
            problems.append(f"{name}: somebody waited for {figures.waited_ms:.0f} ms")
    campaigns.end(problems)
    return None


if __name__ == "__main__":
    main()
