"""The rows about the console: how long its pages take beside many events, and what people who look
at them cost webhooks."""

import random
import threading
from pathlib import Path
from typing import Any

from tests.bench import load, peers, rows, webhooks
from tests.bench.keeping import ACTIONS, prepared
from tests.bench.rows import Measured, Row
from tests.bench.serving import requests
from tests.support import console
from tests.support.daemon import Premblyd

BUDGET_MS = 100.0
PEOPLE, EVERY_S = 3, 1.0  # who open a page each so often
STEADY_RATE = 300.0
ROUNDS = 3  # of each page: the quickest counts, or what else the machine does would
CONSOLE: dict[str, Any] = {"console": console.CONSOLE, "actions": ACTIONS}
# The first part, the last, and what no index helps with.
PAGES = {
    "overview": ["/", "/?since=7d", "/?since=30d"],
    "events": ["/events", "/events?after=0", "/events?code=00&after=0", "/events?until=100d"],
    "rare": [
        "/events?kind=raw",
        "/events?text=nothing+has+this",
        "/events?code=00&outcome=pending",
    ],
    "event": ["/events/1"],
    "deliveries": ["/dead", "/dead?after=0", "/deliveries?action=none", "/deliveries?after=0"],
    "others": ["/actions", "/rejections", "/operators"],
}


def pages(folder: Path, events: int) -> Row:
    """Each page of the console, at the server's side, against a budget."""

    def ours() -> Measured:
        with peers.premblyd(prepared(folder, events), **CONSOLE) as daemon:
            own = console.signed_in(daemon)
            return {
                name: max(_took_ms(own, path) for path in paths) for name, paths in PAGES.items()
            }

    return Row(
        name="console",
        title=f"pages of the console beside {events:,} events",
        peer="budget",
        goals=tuple(rows.time(name, name, 1.0) for name in PAGES),
        ours=ours,
        theirs=lambda: dict.fromkeys(PAGES, BUDGET_MS),
    )


def watched(folder: Path, events: int, seconds: float) -> Row:
    """Webhooks while people look, against the same while nobody does."""

    def measure(daemon: Premblyd) -> Measured:
        sent = requests(webhooks.ours, int(STEADY_RATE * seconds))
        answers = load.steadily(peers.address(daemon), sent, rate=STEADY_RATE, seconds=seconds)
        return {"p99": answers.p99_ms}

    def ours() -> Measured:
        with peers.premblyd(prepared(folder, events), **CONSOLE) as daemon:
            measure(daemon)  # warm
            done = threading.Event()
            own = console.signed_in(daemon)
            people = [threading.Thread(target=_look, args=(own, done)) for _ in range(PEOPLE)]
            for person in people:
                person.start()
            try:
                return measure(daemon)
            finally:
                done.set()
                for person in people:
                    person.join()

    def theirs() -> Measured:
        with peers.premblyd(prepared(folder, events), **CONSOLE) as daemon:
            measure(daemon)
            return measure(daemon)

    return Row(
        name="watched",
        title=f"answers at {STEADY_RATE:.0f}/s while {PEOPLE} people use the console",
        peer="nobody looks",
        goals=(rows.time("p99", "p99 of answers", 2.0, 1.5),),
        ours=ours,
        theirs=theirs,
    )


def _took_ms(own: console.Browser, path: str) -> float:
    took_ms = []
    for _ in range(ROUNDS):
        page = own.get(path)
        if page.status != 200:
            raise load.LoadError(f"{path} was answered {page.status}")
        took_ms.append(page.took_ms)
    return min(took_ms)


def _look(own: console.Browser, done: threading.Event) -> None:
    """Open one page after another, as a person does."""
    paths = [path for some in PAGES.values() for path in some]
    while not done.wait(random.uniform(0.5, 1.5) * EVERY_S):
        own.get(random.choice(paths))
