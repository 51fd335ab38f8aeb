"""The rows about hooks that stay running: what comes and is finished, and how fast a backlog goes,
beside adnanh/webhook, which starts a process for each event."""

import asyncio
import functools
import itertools
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from premblyd.ground import times
from premblyd.queue.inbox import Inbox, NewDelivery
from premblyd.store.connections import backend
from premblyd.store.writer import Writer
from tests.bench import load, peers, rows, serving, webhooks
from tests.bench.load import LoadError
from tests.bench.rows import Measured, Row
from tests.support.store import new_event
from tests.support.waiting import wait_until

CLIENTS = serving.CLIENTS[-1]
HANDLER = [sys.executable, str(Path(__file__).with_name("handler.py"))]
OURS = 10  # times as many events for us, who finish so many more, as for the peer
PROCESSES = 16  # of the worker: a commit claims and finishes as many
BACKLOG = 50_000
BESIDE_RATE = 100.0  # webhooks a second while the backlog goes
BESIDE_S = 4.0


def worker(events: int) -> Row:
    """Accept and finish by a worker, against adnanh/webhook running /bin/true."""
    return _served("worker", events, ["true"], "adnanh/webhook with /bin/true", 1.0, 1.3)


def worker_script(events: int) -> Row:
    """The same against adnanh/webhook starting the worker's own Python for each event."""
    return _served("worker-script", events, HANDLER, "adnanh/webhook with that Python", 15.0, 20.0)


def _served(name: str, events: int, command: list[str], peer: str, bound: float, aim: float) -> Row:
    def ours() -> Measured:
        with peers.premblyd(actions=[_action()]) as daemon:
            return serving.until_finished(daemon, OURS * events, CLIENTS)

    def theirs() -> Measured:
        # Its own last argument stands before the payload.
        with peers.webhook(command, payload_after=command[-1]) as peer:
            return serving.until_peer_finished(peer, events, CLIENTS)

    return Row(
        name=name,
        title="accept and run a Python worker",
        peer=peer,
        needs=("webhook",),
        goals=serving.finished_goals(CLIENTS, bound, aim),
        ours=ours,
        theirs=theirs,
    )


def _action() -> dict[str, Any]:
    return {"name": "work", "worker": HANDLER, "concurrency": PROCESSES, **serving.EVERY}


def backlog(folder: Path, events: int) -> Row:
    """What waits, finished by workers."""

    def ours() -> Measured:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            shutil.copy(_waiting(folder), Path(own, "premblyd.db"))
            with peers.premblyd(Path(own), actions=[_action()]) as daemon:
                answers = load.steadily(
                    peers.address(daemon),
                    serving.requests(webhooks.ours, int(BESIDE_RATE * BESIDE_S)),
                    rate=BESIDE_RATE,
                    seconds=BESIDE_S,
                )
                answered_ms = times.now_ms()
                wait_until(lambda: daemon.rows(_LEFT) == [(0,)])
                [(first_ms, last_ms, succeeded)] = daemon.rows(_RAN, BACKLOG)
        if succeeded != BACKLOG or last_ms < answered_ms:
            raise LoadError(f"{succeeded} succeeded, the last {answered_ms - last_ms} ms too early")
        return {"rate": 1000 * BACKLOG / (last_ms - first_ms), "p99": answers.p99_ms}

    def theirs() -> Measured:
        with peers.webhook(["true"]) as peer:
            return serving.until_peer_finished(peer, events, CLIENTS)

    return Row(
        name="backlog",
        title=f"{BACKLOG:,} that wait, by a Python worker",
        peer="what adnanh/webhook starts",
        needs=("webhook",),
        goals=(
            rows.rate("rate", "finished events", 2.2, 3.0),
            rows.time("p99", f"p99 of answers, {BESIDE_RATE:g}/s meanwhile"),
        ),
        ours=ours,
        theirs=theirs,
    )


_LEFT = "SELECT EXISTS (SELECT 1 FROM delivery WHERE due_at_ms IS NOT NULL)"
_RAN = """
SELECT min(started_at_ms), max(finished_at_ms), count(*) FROM attempt
WHERE outcome = 'succeeded' AND delivery_id <= ?
"""


@functools.cache
def _waiting(folder: Path) -> Path:
    """Return a database in which BACKLOG deliveries wait."""
    path = folder / "waiting.db"
    backend(path).prepare()
    asyncio.run(_store(path))
    return path


async def _store(path: Path) -> None:
    writer = Writer(backend(path).engine())
    inbox, to_work = Inbox(writer), [NewDelivery("work", attempts=10)]
    now_ms = times.now_ms()
    bodies = itertools.islice(webhooks.bodies("waiting"), BACKLOG)
    while portion := list(itertools.islice(bodies, 1000)):
        received = [new_event(body, received_at_ms=now_ms) for body in portion]
        await asyncio.gather(*(inbox.add(webhook, to_work) for webhook in received))
    await writer.close()
