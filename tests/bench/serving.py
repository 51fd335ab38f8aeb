"""The rows that start from an empty database: accept, run, forward, answer beside busy hooks."""

import functools
import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import load, peers, rows, webhooks
from tests.bench.rows import Measured, Row
from tests.support.daemon import Premblyd
from tests.support.prembly_api import prembly_api
from tests.support.waiting import wait_until

CLIENTS = (16, 64)
EVERY = {"response_codes": ["*"]}
SLOTS = 8  # hooks at once
MANY_SLOTS = 32  # where adnanh/webhook, which knows no limit, runs as many as there are webhooks
STEADY_RATE = 300.0
BUSY_HOOK_S = 0.05  # SLOTS of these end 160 times a second, half as often as webhooks come


def accept(seconds: float) -> Row:
    """Durable accept against a handler that does nothing."""

    def theirs() -> Measured:
        with peers.helper("bare") as bare:
            return load_by_clients(f"127.0.0.1:{bare.port}", seconds)

    return Row(
        name="accept",
        title="durable accept, 1 KB signed",
        peer="bare Tornado handler",
        needs=("wrk",),
        goals=goals(0.8, 1.0),
        ours=lambda: accepted(seconds),
        theirs=theirs,
    )


def durable(seconds: float) -> Row:
    """Durable accept against what people write with Flask, which keeps each webhook too."""
    return _durable("durable", "Flask, gunicorn with 4 workers", seconds, 1, 2.0)


def durable_by_threads(seconds: float) -> Row:
    """The same, where the peer's connections are kept."""
    return _durable("durable-threads", "the same with 8 threads each", seconds, 8)


def _durable(name: str, peer: str, seconds: float, threads: int, *limits: float) -> Row:
    def theirs() -> Measured:
        with peers.flask(threads) as address:
            return load_by_clients(address, seconds)

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


def accepted(seconds: float, **place: Any) -> Measured:
    """Load premblyd with each number of clients."""
    with peers.premblyd(**place) as daemon:
        return load_by_clients(daemon.address, seconds)


def load_by_clients(address: str, seconds: float) -> Measured:
    """Load a server with each number of clients."""
    measured: dict[str, float] = {}
    for clients in CLIENTS:
        taken = load.wrk(address, clients=clients, seconds=seconds)
        measured |= {f"rate{clients}": taken.rate, f"p99-{clients}": taken.p99_ms}
    return measured


def goals(*limits: float) -> tuple[rows.Goal, ...]:
    """Return the goals of what was measured so, with the limits of the rate."""
    return tuple(
        goal
        for clients in CLIENTS
        for goal in (
            rows.rate(f"rate{clients}", f"answers, {clients} clients", *limits),
            rows.time(f"p99-{clients}", f"p99, {clients} clients"),
        )
    )


def awaiting(seconds: float) -> Row:
    """Durable accept with `pending` against the same without: each webhook settles what waited."""
    # Nobody is asked: what comes is settled.
    prembly = {"url": "http://127.0.0.1:9", "api_key": "no-key"}
    ours = functools.partial(_accepted, seconds, prembly=prembly, pending={})
    return _against_itself("awaiting", "pending", seconds, ours, 0.9)


def _accepted(seconds: float, folder: Path | None = None, **changes: Any) -> Measured:
    with peers.premblyd(folder, **changes) as daemon:
        taken = load.wrk(daemon.address, clients=CLIENTS[-1], seconds=seconds)
        return {"rate": taken.rate, "p99": taken.p99_ms}


def _against_itself(
    name: str, key: str, seconds: float, ours: Callable[[], Measured], least: float
) -> Row:
    """Return the row of durable accept with a key of the configuration and without."""
    return Row(
        name=name,
        title=f"durable accept with `{key}`",
        peer="the same without it",
        needs=("wrk",),
        goals=(
            rows.rate("rate", f"answers, {CLIENTS[-1]} clients", least, 1.0),
            rows.time("p99", "p99"),
        ),
        ours=ours,
        theirs=functools.partial(_accepted, seconds),
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
        goals=(
            rows.rate("rate", "finished events", 1.0, 2.0),
            rows.time("p99", "p99 of answers", 1.0),
        ),
        ours=ours,
        theirs=theirs,
    )


def confirm(events: int) -> Row:
    """Confirm each event by a question to a stand-in for Prembly and run /bin/true for it, against
    the same without `prembly:`, where nothing is asked."""
    action = {"name": "true", "command": ["/bin/true"], "concurrency": MANY_SLOTS, **EVERY}

    def ours() -> Measured:
        with prembly_api() as api:
            for number in range(events):
                api.know(f"bench-{number:08}")
            prembly = {"url": api.url, "api_key": api.key, "rate": 1000}
            with peers.premblyd(actions=[{**action, "confirm": True}], prembly=prembly) as daemon:
                measured = until_finished(daemon, events)
            _require(api.asked(), events)
            return measured

    def theirs() -> Measured:
        with prembly_api() as api, peers.premblyd(actions=[action]) as daemon:
            measured = until_finished(daemon, events)
            _require(daemon.rows("SELECT count(*) FROM inquiry")[0][0] + api.asked(), 0)
            return measured

    return Row(
        name="confirm",
        title="accept, ask and run /bin/true",
        peer="premblyd that asks nothing",
        goals=(rows.rate("rate", "finished events", 0.25), rows.time("p99", "p99 of answers", 4.0)),
        ours=ours,
        theirs=theirs,
    )


def forward(events: int) -> Row:
    """Accept and POST each event to a local server, against adnanh/webhook running curl."""

    def ours() -> Measured:
        with peers.helper("sink") as sink:
            hook = {"name": "post", "http": {"url": f"http://127.0.0.1:{sink.port}/"}}
            with peers.premblyd(actions=[{**hook, "concurrency": SLOTS, **EVERY}]) as daemon:
                measured = until_finished(daemon, events)
            _require(sink.ask(), events)
            return measured

    def theirs() -> Measured:
        with peers.helper("sink") as sink:
            url = f"http://127.0.0.1:{sink.port}/"
            curl = ["curl", "-s", "-H", "Content-Type: application/json", "-d", url]
            with peers.webhook(curl, payload_after="-d") as peer:
                measured = until_peer_finished(peer, events)
            _require(sink.ask(), events)
            return measured

    return Row(
        name="forward",
        title="accept and forward by HTTP",
        peer="adnanh/webhook with curl",
        needs=("webhook", "curl"),
        goals=(rows.rate("rate", "finished events", 2.0, 5.0), rows.time("p99", "p99 of answers")),
        ours=ours,
        theirs=theirs,
    )


def busy(seconds: float) -> Row:
    """Answers at a steady rate while every slot runs a hook, against no actions at all."""
    hook = {"name": "busy", "command": ["/bin/sleep", str(BUSY_HOOK_S)], "concurrency": SLOTS}

    def measure(actions: Sequence[dict[str, Any]]) -> Measured:
        with peers.premblyd(actions=actions) as daemon:
            answers = steady(daemon, seconds)
            waiting = "SELECT count(*) FROM delivery WHERE state = 'pending'"
            if actions and daemon.rows(waiting) < [(SLOTS,)]:
                raise load.LoadError("the hooks were not busy all the time")
            late_ms = load.percentile(answers.late_s, 99) * 1000
            return {"p99": answers.p99_ms, "late": late_ms}

    return Row(
        name="busy",
        title=f"answers at {STEADY_RATE:g}/s, {SLOTS} hooks busy",
        peer="premblyd without actions",
        goals=(
            rows.time("p99", "p99 of answers", 3.0, 1.5),
            rows.time("late", "p99 of the sender's own delay"),
        ),
        ours=lambda: measure([{**hook, **EVERY}]),
        theirs=lambda: measure([]),
    )


def steady(daemon: Premblyd, seconds: float, rate: float = STEADY_RATE) -> load.Answers:
    """Send so many webhooks a second, new ones to a record that is used again too. Raise LoadError
    when one is not answered 200."""
    sent = requests(webhooks.ours, int(rate * seconds), secrets.token_hex(4))
    return load.steadily(peers.address(daemon), sent, rate=rate, seconds=seconds)


def requests(sign: Callable[[bytes], bytes], count: int, prefix: str = "bench") -> list[bytes]:
    """Return `count` requests, each of another verification."""
    return [sign(content) for content in itertools.islice(webhooks.bodies(prefix), count)]


def until_finished(daemon: Premblyd, events: int, clients: int = CLIENTS[0]) -> Measured:
    """Send so many webhooks, and wait until all their hooks have succeeded."""
    sent = requests(webhooks.ours, events)
    begun = time.perf_counter()
    answers = load.at_once(peers.address(daemon), sent, clients=clients)
    left = "SELECT EXISTS (SELECT 1 FROM delivery WHERE due_at_ms IS NOT NULL)"
    wait_until(lambda: daemon.rows(left) == [(0,)])
    seconds = time.perf_counter() - begun
    ((succeeded,),) = daemon.rows("SELECT count(*) FROM delivery WHERE state = 'succeeded'")
    _require(succeeded, events)
    return {"rate": events / seconds, "p99": answers.p99_ms}


def until_peer_finished(peer: peers.Webhook, events: int, clients: int = CLIENTS[0]) -> Measured:
    """The same of the peer."""
    sent = requests(webhooks.theirs, events)
    begun = time.perf_counter()
    answers = load.at_once(peer.address, sent, clients=clients)
    wait_until(lambda: peer.finished >= events)
    seconds = time.perf_counter() - begun
    return {"rate": events / seconds, "p99": answers.p99_ms}


def _require(count: int, events: int) -> None:
    if count != events:
        raise load.LoadError(f"{count} of {events} were done")
