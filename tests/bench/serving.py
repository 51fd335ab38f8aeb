"""The rows about webhooks that come: accept, accept with features, run."""

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from premblyd.store.connections import backend
from tests.bench import load, peers, rows, webhooks
from tests.bench.rows import Measured, Row
from tests.support import database, postgresql
from tests.support.daemon import Premblyd
from tests.support.waiting import wait_until

CLIENTS = (16, 64)
EVERY = {"response_codes": ["*"]}
MANY_SLOTS = 32  # where adnanh/webhook, which knows no limit, runs as many as there are webhooks
# Its one slot is taken for as long as we measure: what is accepted for it waits.
WAITS = {"name": "waits", "command": ["/bin/sleep", "600"], "concurrency": 1, **EVERY}
NOBODY = {"url": "http://127.0.0.1:9", "api_key": "no-key"}
FEATURES: dict[str, dict[str, Any]] = {
    "confirm": {"prembly": NOBODY, "actions": [WAITS | {"confirm": True}]},
    "once": {"actions": [WAITS | {"once": "reference"}]},
    "order": {"actions": [WAITS | {"order": "reference"}]},
    "pending": {"prembly": NOBODY, "pending": {}, "actions": [WAITS]},
    "retention": {"retention": {"body": "1h", "record": "2h"}, "actions": [WAITS]},
}
SLOWER = 1.25  # a webhook may take so much more of the processor with a feature


def accept(seconds: float) -> Row:
    """Durable accept against a handler that does nothing."""

    def theirs() -> Measured:
        with peers.bare() as bare:
            return load_by_clients(bare.address, seconds, bare.pid)

    return Row(
        name="accept",
        title="durable accept, 1 KB signed",
        peer="bare Tornado handler",
        needs=("wrk",),
        goals=goals(0.65, 0.85, processor=1.5),
        ours=lambda: accepted(seconds),
        theirs=theirs,
    )


def durable(seconds: float) -> Row:
    """Durable accept against what people write with Flask, which keeps each webhook too."""
    return _durable("durable", "Flask, gunicorn with 4 workers", seconds, 1, 2.2, 3.0)


def durable_by_threads(seconds: float) -> Row:
    """The same, where the peer's connections are kept."""
    return _durable("durable-threads", "the same with 8 threads each", seconds, 8, 1.3, 1.6)


def _durable(name: str, peer: str, seconds: float, threads: int, *limits: float) -> Row:
    def theirs() -> Measured:
        with peers.flask(threads) as server:
            return load_by_clients(server.address, seconds, server.pid)

    return Row(
        name=name,
        title="durable accept, 1 KB signed, each body new",
        peer=peer,
        needs=("wrk",),
        libraries=("flask", "gunicorn"),
        goals=goals(*limits),
        ours=lambda: accepted(seconds),
        theirs=theirs,
    )


def accepted(seconds: float, **config: Any) -> Measured:
    """Load premblyd with each number of clients."""
    with peers.premblyd(**config) as daemon:
        return load_by_clients(daemon.address, seconds, daemon.process.pid)


def load_by_clients(address: str, seconds: float, pid: int) -> Measured:
    """Load a server with each number of clients."""
    measured: dict[str, float] = {}
    for clients in CLIENTS:
        before_s = peers.processor_s(pid)
        taken = load.wrk(address, clients=clients, seconds=seconds)
        each_ms = (peers.processor_s(pid) - before_s) / taken.answers * 1000
        measured |= {f"rate{clients}": taken.rate, f"p99-{clients}": taken.p99_ms}
        measured[f"processor{clients}"] = each_ms
    return measured


def goals(*limits: float, processor: float | None = None) -> tuple[rows.Goal, ...]:
    """Return the goals of what was measured so, with the limits of the rate. How much of the
    processor a webhook takes hardly depends on what else a machine does, where rates swing."""
    return tuple(
        goal
        for clients in CLIENTS
        for goal in (
            rows.rate(f"rate{clients}", f"answers, {clients} clients", *limits),
            rows.time(f"p99-{clients}", f"p99, {clients} clients"),
            rows.time(f"processor{clients}", f"processor for each, {clients} clients", processor),
        )
    )


def with_features(seconds: float) -> Row:
    """Durable accept with each feature, and the same without it."""
    key = f"processor{CLIENTS[0]}"

    def theirs() -> Measured:
        return dict.fromkeys(FEATURES, accepted(seconds, actions=[WAITS])[key])

    return Row(
        name="features",
        title="durable accept, for an action",
        peer="without it",
        needs=("wrk",),
        goals=tuple(rows.time(each, f"processor for each, {each}", SLOWER) for each in FEATURES),
        ours=lambda: {each: accepted(seconds, **given)[key] for each, given in FEATURES.items()},
        theirs=theirs,
    )


def elsewhere(seconds: float) -> Row:
    """Durable accept into an encrypted file, and on PostgreSQL: a cluster of its own, of which a
    commit is on the disk before it returns, as with SQLite."""
    key = f"rate{CLIENTS[0]}"

    def ours() -> Measured:
        with tempfile.TemporaryDirectory() as name, postgresql.server() as server:
            place = database.file_in(Path(name), is_encrypted=True)
            backend(place).prepare()
            encrypted = accepted(seconds, folder=Path(name), place=place)
            return {"encrypted": encrypted[key], "server": accepted(seconds, place=server)[key]}

    return Row(
        name="elsewhere",
        title="durable accept elsewhere",
        peer="into a plain file",
        needs=("wrk",),
        goals=(rows.rate("encrypted", "an encrypted file", 0.8), rows.rate("server", "PostgreSQL")),
        ours=ours,
        theirs=lambda: dict.fromkeys(("encrypted", "server"), accepted(seconds)[key]),
    )


def run(events: int) -> Row:
    """Accept and run /bin/true for each event, against adnanh/webhook."""
    action = {"name": "true", "command": ["/bin/true"], "concurrency": MANY_SLOTS, **EVERY}

    def ours() -> Measured:
        with peers.premblyd(actions=[action]) as daemon:
            return until_finished(daemon, events)

    def theirs() -> Measured:
        with peers.webhook(["true"]) as peer:
            return until_peer_finished(peer, events)

    return Row(
        name="run",
        title="accept and run /bin/true",
        peer="adnanh/webhook",
        needs=("webhook",),
        goals=finished_goals(CLIENTS[0], 0.45, 0.6),
        ours=ours,
        theirs=theirs,
    )


def finished_goals(clients: int, *limits: float) -> tuple[rows.Goal, ...]:
    return (
        rows.rate("rate", f"finished events, {clients} clients", *limits),
        rows.time("processor", "own processor for each"),
        rows.time("p99", "p99 of answers"),
    )


def requests(sign: Callable[[bytes], bytes], count: int, prefix: str = "bench") -> list[bytes]:
    """Return `count` requests, each of another verification."""
    return [sign(content) for content in itertools.islice(webhooks.bodies(prefix), count)]


def until_finished(daemon: Premblyd, events: int, clients: int = CLIENTS[0]) -> Measured:
    """Send so many webhooks, and wait until all their hooks have succeeded."""
    left = "SELECT EXISTS (SELECT 1 FROM delivery WHERE due_at_ms IS NOT NULL)"

    def is_done() -> bool:
        return daemon.rows(left) == [(0,)]

    sent = requests(webhooks.ours, events)
    measured = _until(is_done, peers.address(daemon), sent, clients, daemon.process.pid)
    ((succeeded,),) = daemon.rows("SELECT count(*) FROM delivery WHERE state = 'succeeded'")
    if succeeded != events:
        raise load.LoadError(f"{succeeded} of {events} were done")
    return measured


def until_peer_finished(peer: peers.Webhook, events: int, clients: int = CLIENTS[0]) -> Measured:
    """The same of the peer."""
    sent = requests(webhooks.theirs, events)
    return _until(lambda: peer.finished >= events, peer.address, sent, clients, peer.pid)


def _until(
    is_done: Callable[[], bool], address: load.Address, sent: list[bytes], clients: int, pid: int
) -> Measured:
    begun, before_s = time.perf_counter(), peers.processor_s(pid, with_children=False)
    answers = load.at_once(address, sent, clients=clients)
    wait_until(is_done)
    seconds = time.perf_counter() - begun
    each_ms = (peers.processor_s(pid, with_children=False) - before_s) / len(sent) * 1000
    return {"rate": len(sent) / seconds, "p99": answers.p99_ms, "processor": each_ms}


def fsync_ms(folder: Path) -> float:
    """Return how long the disk of a folder takes for an fsync."""
    took_s = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(20):
            file.write(bytes(4096))
            begun = time.perf_counter()
            os.fsync(file)
            took_s.append(time.perf_counter() - begun)
    return statistics.median(took_s) * 1000
