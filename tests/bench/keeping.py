"""The rows about a large database: what its size does to answers, to the queue and to people."""

import asyncio
import contextlib
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from premblyd.engines.engine import Database, Engine, Transaction
from premblyd.engines.sqlite import opening
from premblyd.engines.sqlite.engine import SqliteEngine
from premblyd.engines.writer import Writer
from premblyd.model.states import AttemptOutcome, State
from premblyd.queue.jobs import Claimable, Ending, Load, Result
from premblyd.queue.queue import Queue
from premblyd.record import events, lists
from premblyd.record.filters import DeliveryFilter, EventFilter
from tests.bench import load, peers, rows, serving, stored
from tests.bench.rows import Measured, Row
from tests.bench.serving import EVERY
from tests.support import commands
from tests.support.daemon import Premblyd

Done = TypeVar("Done")
REPLAYED = 100_000  # events
SMALL = 10_000  # events in the database that a large one is compared with
CALLS = 200
SLOTS = 4
LISTED = 50  # the commands' own --limit
CLIENTS = 16
# Its one slot is taken for as long as we measure, so that what is due has to wait; an action
# with free slots makes the daemon look for work all the same.
ACTIONS = (
    {"name": stored.SLOW, "command": ["/bin/sleep", "600"], "concurrency": 1, **EVERY},
    {"name": "other", "command": ["/bin/true"], "response_codes": ["99"]},
)


def grown(folder: Path, events: int, seconds: float) -> Row:
    """Durable accept into a large database, against an empty one."""

    def measure(daemon: Premblyd) -> Measured:
        taken = load.wrk(daemon.address, clients=CLIENTS, seconds=seconds)
        return {"rate": taken.rate, "p99": taken.p99_ms}

    def ours() -> Measured:
        with peers.premblyd(prepared(folder, events), actions=ACTIONS) as daemon:
            return measure(daemon)

    def theirs() -> Measured:
        with peers.premblyd(actions=ACTIONS) as daemon:
            return measure(daemon)

    return Row(
        name="grown",
        title=f"accept with {events:,} events, {stored.waiting(events):,} waiting",
        peer="empty database",
        needs=("wrk",),
        goals=(
            rows.rate("rate", f"answers, {CLIENTS} clients", 0.9, 1.0),
            rows.time("p99", "p99 of answers", 1 / 0.9, 1.0),
        ),
        ours=ours,
        theirs=theirs,
    )


def replaying(folder: Path, events: int, seconds: float) -> Row:
    """Answers at a steady rate while an operator replays all of a large record, against nobody who
    does."""
    count = min(events, REPLAYED)

    def measure(replays: bool) -> Measured:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            own = Path(shutil.copytree(prepared(folder, count), name, dirs_exist_ok=True))
            with peers.premblyd(own, actions=ACTIONS) as daemon, contextlib.ExitStack() as stack:
                process = stack.enter_context(_replay(daemon)) if replays else None
                answers = serving.steady(daemon, seconds)  # raises for an answer that is not 200
                if process is not None:
                    if process.poll() is not None:
                        raise load.LoadError("the replay ended before the load did")
                    process.kill()
                return {"p99": answers.p99_ms, "most": max(answers.took_s) * 1000}

    return Row(
        name="replaying",
        title=f"answers at {serving.STEADY_RATE:g}/s beside a replay of {count:,}",
        peer="nobody replays",
        goals=(
            rows.time("p99", "p99 of answers", 3.0, 1.5),
            rows.time("most", "the slowest answer"),
        ),
        ours=lambda: measure(True),
        theirs=lambda: measure(False),
    )


def _replay(daemon: Premblyd) -> "subprocess.Popen[bytes]":
    since = ("--action", stored.SLOW, "--since", "2020-01-01", "--yes")
    words = commands.command("--config", daemon.config, "replay", *since)
    return subprocess.Popen(words, stdout=subprocess.DEVNULL)


def lookup(folder: Path, events: int) -> Row:
    """What the daemon and an operator ask of a large database, against one of SMALL events."""

    def measure(count: int) -> Measured:
        path = prepared(folder, count) / "premblyd.db"
        with closing(opening.connect_read_only(path)) as record:
            references = [stored.reference(at) for at in _spread(count)]
            numbers = [str(at + 1) for at in _spread(count)]
            return {
                "claim": asyncio.run(claims_ms(SqliteEngine(path))),
                "reference": _median_ms(lambda text: _by_reference(record, text), references),
                "show": _median_ms(lambda text: _show(record, text), numbers),
                "dead": _median_ms(
                    lambda state: lists.rows(record, DeliveryFilter(state=state), LISTED),
                    ["dead"] * CALLS,
                ),
            }

    return Row(
        name="lookup",
        title=f"asking a database of {events:,} events",
        peer=f"{SMALL:,} events",
        goals=(
            rows.time("claim", f"claim {SLOTS} of {stored.waiting(events):,}", 1.3, 1.0),
            rows.time("reference", "events --reference", 1.3, 1.0),
            rows.time("show", "show", 1.3, 1.0),
            rows.time("dead", "deliveries --state dead", 1.3, 1.0),
        ),
        ours=lambda: measure(events),
        theirs=lambda: measure(SMALL),
    )


def prepared(folder: Path, events: int) -> Path:
    """Return the folder of the database of `events` events, made when it is first asked for."""
    own = folder / str(events)
    if not own.exists():
        own.mkdir()
        stored.build(own / "premblyd.db", events)
    return own


class _TimedWriter(Writer):
    """Knows how long its last operation took without the commit: that waits for the disk, and
    would hide what the size of the database does."""

    took_s = 0.0

    def call(
        self, work: Callable[[Transaction], Done], *which: Any, **more: Any
    ) -> "asyncio.Future[Done]":
        def timed(transaction: Transaction) -> Done:
            begun = time.perf_counter()
            done = work(transaction)
            self.took_s = time.perf_counter() - begun
            return done

        return super().call(timed, *which, **more)


async def claims_ms(engine: Engine) -> float:
    """Claim and give back, again and again; return the median of the claims."""
    writer = _TimedWriter(engine)
    queue = Queue(writer, "bench:1:00000000")
    actions = {stored.SLOW: Claimable(slots=SLOTS, lease_ms=60_000, digest="0" * 12)}
    given_back = Result(outcome=AttemptOutcome.INTERRUPTED)
    took_ms = []
    for _ in range(CALLS):
        now_ms = time.time_ns() // 1_000_000
        claimed = await queue.claim(actions, Load(limit=SLOTS), now_ms)
        took_ms.append(writer.took_s * 1000)
        if len(claimed.jobs) != SLOTS:
            raise load.LoadError(f"{len(claimed.jobs)} deliveries were due instead of {SLOTS}")
        for job in claimed.jobs:
            ending = Ending(
                state=State.PENDING,
                at_ms=now_ms,
                due_at_ms=now_ms,
                attempts_left=job.attempts_left + 1,
            )
            await queue.finish(job, given_back, ending)
    await writer.close()
    return statistics.median(took_ms)


def _by_reference(record: Database, reference: str) -> None:
    found = lists.rows(record, EventFilter(reference=reference), LISTED)
    if len(found) != 1:
        raise load.LoadError(f"{len(found)} events have one reference")


def _show(record: Database, number: str) -> None:
    event = events.find_event(record, number)
    deliveries = lists.rows(record, DeliveryFilter(event_id=event.id))
    events.attempts_of(record, [delivery.id for delivery in deliveries])


def _median_ms(ask: Callable[[str], object], values: Iterable[str]) -> float:
    took_ms = []
    for value in values:
        begun = time.perf_counter()
        ask(value)
        took_ms.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took_ms)


def _spread(count: int) -> list[int]:
    """Return CALLS places all over a database of `count` events."""
    return [(at * count) // CALLS for at in range(CALLS)]
