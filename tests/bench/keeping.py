"""The rows about a large database: what its size does to answers, to the queue and to people."""

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

from premblyd.engines.engine import Database, Engine
from premblyd.engines.sqlite import opening
from premblyd.engines.sqlite.engine import SqliteEngine
from premblyd.engines.writer import Writer
from premblyd.record import events, lists
from premblyd.record.filters import DeliveryFilter, EventFilter
from tests.bench import load, peers, rows, serving, stored
from tests.bench.rows import Measured, Row
from tests.bench.serving import EVERY
from tests.bench.timed import SLOTS, Timed, claim_and_finish, median_ms
from tests.support import commands
from tests.support.daemon import Premblyd

REPLAYED = 100_000  # events
SMALL = 10_000  # events in the database that a large one is compared with
CALLS = 200
DEAD = DeliveryFilter(state="dead")
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
                "claim": asyncio.run(claim_ms(SqliteEngine(path))),
                "reference": median_ms(partial(_by_reference, record, each) for each in references),
                "show": median_ms(partial(_show, record, each) for each in numbers),
                "dead": median_ms([partial(lists.rows, record, DEAD, LISTED)] * CALLS),
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


async def claim_ms(engine: Engine) -> float:
    """Claim and give back, again and again; return the median of the claims."""
    timed = Timed(engine)
    writer = Writer(timed)
    try:
        return (await claim_and_finish(writer, timed, stored.SLOW, CALLS))["claim"]
    finally:
        await writer.close()


def _by_reference(record: Database, reference: str) -> None:
    found = lists.rows(record, EventFilter(reference=reference), LISTED)
    if len(found) != 1:
        raise load.LoadError(f"{len(found)} events have one reference")


def _show(record: Database, number: str) -> None:
    event = events.find_event(record, number)
    deliveries = lists.rows(record, DeliveryFilter(event_id=event.id))
    events.attempts_of(record, [delivery.id for delivery in deliveries])


def _spread(count: int) -> list[int]:
    """Return CALLS places all over a database of `count` events."""
    return [(at * count) // CALLS for at in range(CALLS)]
