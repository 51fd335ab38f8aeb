"""The row about the console: how fast its pages are, and what they cost the webhooks."""

import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.bench import load, peers, rows, serving
from tests.bench.keeping import ACTIONS, prepared
from tests.bench.rows import Measured, Row
from tests.support.console import CONSOLE, Browser, signed_in
from tests.support.daemon import Premblyd

PAGE_MS = 100.0  # what a page may take at the server's side
PAUSE_S = 0.1  # between two pages: somebody in a hurry, with several windows
# The first part of each list and the last, by an index and without.
PAGES = (
    "/", "/?since=7d", "/?since=30d",
    "/events", "/events?after=0", "/events?outcome=verified&after=0", "/events?code=00&after=0",
    "/events?outcome=pending", "/events?text=nobody+wrote+this", "/events?text=nobody&after=0",
    "/events?since=2023-11-20&until=2023-11-21", "/events?user_ref=user-7", "/events/{last}",
    "/events/1", "/dead", "/dead?after=0", "/dead?action=slow&after=0",
    "/deliveries", "/deliveries?after=0", "/deliveries?state=pending",
    "/deliveries?state=pending&after=0", "/deliveries?state=cancelled", "/deliveries?action=none",
    "/rejections", "/actions", "/operators",
)  # fmt: skip


def console(folder: Path, events: int, seconds: float) -> Row:
    """Answers at a steady rate while somebody leafs through the console, against nobody."""

    def answers_ms(daemon: Premblyd) -> float:
        return serving.steady(daemon, seconds).p99_ms

    def ours() -> Measured:
        with (
            peers.premblyd(prepared(folder, events), actions=ACTIONS, console=CONSOLE) as daemon,
            ProcessPoolExecutor(1) as pool,
        ):
            own = signed_in(daemon)
            looking = pool.submit(look, own.address, own.cookies, seconds)
            p99_ms = answers_ms(daemon)
            return {"p99": p99_ms, "page": max(looking.result().values())}

    def theirs() -> Measured:
        with peers.premblyd(prepared(folder, events), actions=ACTIONS, console=CONSOLE) as daemon:
            return {"p99": answers_ms(daemon), "page": PAGE_MS}

    return Row(
        name="console",
        title=f"console with {events:,} events beside {serving.STEADY_RATE:g} webhooks/s",
        peer="nobody looks; budget",
        goals=(
            rows.time("p99", "p99 of answers", 2.0, 1.2),
            rows.time("page", "slowest page's median", 1.0, 0.5),
        ),
        ours=ours,
        theirs=theirs,
    )


def look(address: str, cookies: Mapping[str, str], seconds: float) -> dict[str, float]:
    """Look at all pages again and again for `seconds`; return the median of each in ms."""
    own = Browser(address)
    own.cookies.update(cookies)
    last = own.get("/events.json").json["events"][0]["id"]
    took_ms: dict[str, list[float]] = {path: [] for path in PAGES}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path, times in took_ms.items():
            page = own.get(path.format(last=last))
            if page.status != 200:
                raise load.LoadError(f"{path} was answered {page.status}")
            times.append(page.took_ms)
            time.sleep(PAUSE_S)
    return {path: statistics.median(times) for path, times in took_ms.items()}
