"""The rows about a record of millions: all that is done there takes as long as in a small one. Both
come of `filled`, and have as much that waits and as much that is over."""

import asyncio
import atexit
import contextlib
import dataclasses
import functools
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from premblyd import times
from premblyd.config.retention import Retention
from premblyd.databases import DatabaseAddress, Server
from premblyd.engines.connections import backend
from premblyd.engines.writer import Step, Writer
from premblyd.keep.sweeping import Round
from tests.bench import filled, load, rows
from tests.bench.costs import resident_mb
from tests.bench.filled import Filling
from tests.bench.keeping import ACTIONS
from tests.bench.rows import Goal, Measured, Row
from tests.bench.timed import SLOTS, Timed, claim_and_finish, median_ms, start_ms
from tests.support import commands, database, postgresql
from tests.support.console import CONSOLE, Browser, signed_in
from tests.support.daemon import Premblyd

EVENTS = 10_000_000  # in a file; on a server half of them
SMALL = 100_000
BOUND = 1.25
CLAIMS, PORTIONS, TIMES, STARTS = 40, 5, 9, 3  # in a round
CLIENTS = 16
RETENTION = {"record": f"{(filled.OLD_DAYS + filled.DAYS) // 2}d"}
SHOWN = "2500"  # an event that stays
COMMANDS = {
    "events": (), "events --code": ("01",), "events --reference": ("nobody",), "deliveries": (),
    "deliveries --state": ("dead",), "pending": (), "rejections": (), "status": (), "stats": (),
    "check": (), "show": (SHOWN,),
}  # fmt: skip
STATUS_CODES = range(3)  # what `status` ends with
_FILLED = "is-filled"  # a file beside a record that is whole
_LAST_PERSON = (
    "SELECT user_ref FROM event WHERE id <= ? AND user_ref <> '' ORDER BY id DESC LIMIT 1"
)
# Its share of a machine that is its own.
SERVER = {"shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}
# The first part of each list and the last, by an index and without.
PAGES = (
    "/", "/?since=7d", "/?since=30d",
    "/events", "/events?after=0", "/events?outcome=verified&after=0", "/events?code=00&after=0",
    "/events?outcome=pending", "/events?text=nobody+wrote+this", "/events?text=nobody&after=0",
    "/events?since=2023-11-20&until=2023-11-21", "/events?user_ref=user-7", "/events/{last}",
    f"/events/{SHOWN}", "/dead", "/dead?after=0", "/dead?action=slow&after=0",
    "/deliveries", "/deliveries?after=0", "/deliveries?state=pending",
    "/deliveries?state=pending&after=0", "/deliveries?state=cancelled", "/deliveries?action=none",
    "/rejections", "/actions", "/operators",
    "/events?find=user-00000007", "/events?handled=dead", "/metrics",
)  # fmt: skip


# They look through rows that no index picks, until they have some or `lists.BUDGET_S` is over: that
# bounds them, and not the size.
SEARCHES = ("/events?text=", "/deliveries?action=none")


class Record:
    """A record of so many events, and what is measured of it."""

    def __init__(self, folder: Path, place: DatabaseAddress, events: int) -> None:
        self._folder = folder
        self.place = place
        self._events = events

    def measure(self, seconds: float) -> Measured:
        """Do everything once, or a few times."""
        figures = asyncio.run(self._by_writer())
        with Premblyd(self._folder, place=self.place, retention=RETENTION) as daemon:
            figures["prune"] = _median_ms(partial(_run, daemon, "record", "prune", "--dry-run"))
            figures["erase"] = _median_ms(lambda: self._erase(daemon))
        more: dict[str, Any] = {"actions": ACTIONS, "console": CONSOLE, "stop_timeout": "1s"}
        with Premblyd(self._folder, place=self.place, **more) as daemon:
            figures["start"] = statistics.median(_starts_ms(daemon))
            browser = signed_in(daemon)
            last = browser.get("/events.json").json["events"][0]["id"]
            for path in PAGES:
                figures[path] = _median_ms(partial(_get, browser, path.format(last=last)))
            for words, values in COMMANDS.items():
                figures[words] = _median_ms(partial(_run, daemon, *words.split(), *values))
            taken = load.wrk(daemon.address, clients=CLIENTS, seconds=seconds)
            figures["accept"] = 1000 / taken.rate
            figures["memory"] = resident_mb(daemon)
            daemon.stop()
        return figures

    def _erase(self, daemon: Premblyd) -> None:
        """Erase the last who is still there: all have as many events in each record."""
        ((user_ref,),) = database.rows(self.place, _LAST_PERSON, self._events)
        erased = json.loads(
            _run(daemon, "person", "erase", "--user-ref", user_ref, "--yes", "--json")
        )
        if len(erased["event_ids"]) != filled.OF_PERSON:
            raise load.LoadError(f"{len(erased['events'])} events were erased")

    async def _by_writer(self) -> dict[str, float]:
        """Claim, finish and remove as a daemon does."""
        engine = Timed(backend(self.place).engine(), with_commits=isinstance(self.place, Server))
        writer = Writer(engine)
        try:
            return {
                **await claim_and_finish(writer, engine, filled.SLOW, CLAIMS),
                "retention": await _remove(writer, engine),
            }
        finally:
            await writer.close()


async def _remove(writer: Writer, engine: Timed) -> float:
    """Remove a few portions of what is over."""
    round_ = Round(Retention.model_validate(RETENTION), with_eventless=False)
    took: list[float] = []
    while len(took) < PORTIONS and round_.has_work:
        done, took_ms = await engine.ms(
            writer.call(round_.work(times.now_ms()), Step.EVIDENCE, alone=True)
        )
        round_.take(done)
        if done.count:
            took.append(took_ms)
    if not took:
        raise load.LoadError("nothing is over any more: remove what --keep kept")
    return statistics.median(took)


def _median_ms(work: Callable[[], object]) -> float:
    return median_ms([work] * TIMES)


def _starts_ms(daemon: Premblyd) -> Iterator[float]:
    """Start it a few times, and yield how long each start took."""
    for number in range(STARTS):
        if number:
            daemon.stop()
        yield start_ms(daemon)


def _run(daemon: Premblyd, *words: str) -> str:
    """Run a command in this process, where nothing is to be imported any more."""
    ran = commands.run(*words, "--config", daemon.config)
    if ran.code not in STATUS_CODES:
        raise load.LoadError(f"{words[0]} ended with {ran.code}: {ran.err}")
    return ran.out


def _get(browser: Browser, path: str) -> None:
    page = browser.get(path)
    if page.status != 200:
        raise load.LoadError(f"{path} was answered {page.status}")


def sqlite(folder: Path, events: int | None, seconds: float) -> Row:
    """A record in a file."""

    @functools.cache
    def record(count: int) -> Record:
        own = folder / f"filled-{count}"
        return _filled(own, own / "premblyd.db", count)

    return _row("scale", "SQLite", events or EVENTS, seconds, record)


def server(folder: Path, kept: Path | None, events: int | None, seconds: float) -> Row:
    """A record on PostgreSQL."""
    folder = kept or folder

    @functools.cache
    def cluster() -> postgresql.Cluster:
        own = _new_cluster() if kept is None else _kept_cluster(kept / "server")
        own.start()
        return own

    @functools.cache
    def record(count: int) -> Record:
        own = folder / f"filled_on_server_{count}"
        if not _is_filled(own):
            with cluster().connect() as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {own.name}".encode())
                connection.execute(f"CREATE DATABASE {own.name}".encode())
        return _filled(own, Server(cluster().url(own.name)), count)

    return _row("scale-postgresql", "PostgreSQL", events or EVENTS // 2, seconds, record)


def _new_cluster() -> postgresql.Cluster:
    stack = contextlib.ExitStack()
    own = stack.enter_context(postgresql.cluster())
    atexit.register(stack.close)
    own.configure(**SERVER)
    return own


def _kept_cluster(folder: Path) -> postgresql.Cluster:
    own = postgresql.Cluster(folder)
    if not own.data.exists():
        own.create()
        own.configure(**SERVER)
    for path in (own.data / "base").rglob("*"):
        _read(path)
    atexit.register(own.stop)
    return own


def _filled(folder: Path, place: DatabaseAddress, events: int) -> Record:
    """Return the record that is kept there, or a new one."""
    if not _is_filled(folder):
        shutil.rmtree(folder, ignore_errors=True)  # of a fill that was ended
        folder.mkdir(parents=True)
        begun = time.monotonic()
        filled.fill(place, Filling(events, times.now_ms()))
        print(f"filled {events:,} events in {time.monotonic() - begun:.0f} s", file=sys.stderr)
        (folder / _FILLED).touch()
    elif isinstance(place, Path):
        _read(place)
    return Record(folder, place, events)


def _read(path: Path) -> None:
    """Have the system keep a file in memory, as one that was just written: what a page costs from
    the disk would hide what the size of the record does."""
    if path.is_file():
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                continue


def _is_filled(folder: Path) -> bool:
    return (folder / _FILLED).exists()


def _row(
    name: str, engine: str, events: int, seconds: float, record: Callable[[int], Record]
) -> Row:
    small = min(SMALL, events // 10)
    return Row(
        name=name,
        title=f"{events:,} events and their deliveries on {engine}",
        peer=f"{small:,} events",
        needs=("wrk",),
        goals=_goals(),
        ours=lambda: record(events).measure(seconds),
        theirs=lambda: record(small).measure(seconds),
    )


def _goals() -> tuple[Goal, ...]:
    measured = {
        "accept": f"a webhook of {CLIENTS} clients",
        "claim": f"claim {SLOTS}",
        "finish": "finish",
        "start": "start to READY",
        "retention": "remove a portion",
        "prune": "prune --dry-run",
        "erase": f"erase a person of {filled.OF_PERSON}",
        **{words: words for words in COMMANDS},
        **{path: f"GET {path}" for path in PAGES},
    }
    memory = rows.memory("memory", "memory of the daemon")
    return (
        *(
            rows.time(key, what, None if key.startswith(SEARCHES) else BOUND)
            for key, what in measured.items()
        ),
        dataclasses.replace(memory, bound=BOUND),
    )
