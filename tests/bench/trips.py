"""The row about a PostgreSQL server that is not beside the daemon: what each way to it costs."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

import psycopg

from premblyd import times
from premblyd.databases import Server
from premblyd.engines.connections import backend
from premblyd.engines.writer import Writer
from premblyd.queue.inbox import Inbox, NewDelivery
from tests.bench import load, peers, rows, serving, workers
from tests.bench.rows import Measured, Row
from tests.support import postgresql
from tests.support.store import new_event
from tests.support.waiting import wait_until

DELAYS_MS = (0.0, 0.2, 1.0, 5.0)
DAEMONS = (1, 2, 3)
DAEMONS_AT_MS = (0.0, 1.0)
PORTION = 500
_DONE = "SELECT count(*) FROM delivery WHERE state = 'succeeded'"


def trips(seconds: float, events: int) -> Row:
    """Accept, and finish a backlog, with the server so far away, beside the same at 0 ms by one
    daemon. All of it passes the same proxy, which costs a little by itself."""

    def ours() -> Measured:
        measured = {f"accept-{ms:g}": _accepted(ms, seconds) for ms in DELAYS_MS}
        for ms in DELAYS_MS:
            for daemons in DAEMONS if ms in DAEMONS_AT_MS else DAEMONS[:1]:
                measured[f"backlog-{ms:g}-{daemons}"] = _finished(ms, daemons, events)
        return measured

    def theirs() -> Measured:
        accepted, finished = _accepted(0, seconds), _finished(0, 1, events)
        keys = (goal.key for goal in goals)
        return {key: accepted if key.startswith("accept") else finished for key in keys}

    clients = serving.CLIENTS[-1]
    goals = [
        rows.rate(f"accept-{ms:g}", f"webhooks, {clients} clients, {ms:g} ms") for ms in DELAYS_MS
    ]
    for ms in DELAYS_MS:
        for daemons in DAEMONS if ms in DAEMONS_AT_MS else DAEMONS[:1]:
            what = f"hooks of a backlog, {ms:g} ms, daemons: {daemons}"
            goals.append(rows.rate(f"backlog-{ms:g}-{daemons}", what))
    return Row(
        name="trips",
        title="PostgreSQL at a distance (ms there and back)",
        peer="one daemon at 0 ms",
        needs=("wrk",),
        goals=tuple(goals),
        ours=ours,
        theirs=theirs,
    )


@contextlib.contextmanager
def _far(delay_ms: float) -> Iterator[tuple[Server, Server]]:
    """Yield a new database, and the same so far away."""
    with postgresql.server() as near:
        with psycopg.connect(near.url) as connection:
            info = connection.info
            socket = f"{info.host}/.s.PGSQL.{info.port}"
            name = info.dbname
        with peers.helper("far", socket, str(delay_ms)) as helper:
            yield (
                near,
                Server(f"postgresql://{postgresql.SUPERUSER}@127.0.0.1:{helper.port}/{name}"),
            )


def _accepted(delay_ms: float, seconds: float) -> float:
    with _far(delay_ms) as (_, place), peers.premblyd(place=place) as daemon:
        return load.wrk(daemon.address, clients=serving.CLIENTS[-1], seconds=seconds).rate


def _finished(delay_ms: float, daemons: int, events: int) -> float:
    """Return how many hooks a second end, without the time until the first tenth has."""
    worker = {"worker": workers.HANDLER, "concurrency": workers.PROCESSES}
    action = {"name": "work", **worker, **serving.EVERY}
    with contextlib.ExitStack() as stack:
        near, place = stack.enter_context(_far(delay_ms))
        asyncio.run(_fill(near, events))
        reading = stack.enter_context(psycopg.connect(near.url, autocommit=True))

        def done() -> int:
            return int(reading.execute(_DONE).fetchall()[0][0])

        for _ in range(daemons):
            stack.enter_context(peers.premblyd(place=place, actions=[action]))
        wait_until(lambda: done() >= events / 10)
        begun, before = time.perf_counter(), done()
        wait_until(lambda: done() == events)
        return (events - before) / (time.perf_counter() - begun)


async def _fill(place: Server, events: int) -> None:
    backend(place).prepare()
    writer = Writer(backend(place).engine())
    inbox = Inbox(writer)
    for first in range(0, events, PORTION):
        portion = range(first, min(first + PORTION, events))
        await asyncio.gather(
            *(
                inbox.add(
                    new_event(b"%d" % number, received_at_ms=times.now_ms()),
                    [NewDelivery("work", 3)],
                )
                for number in portion
            )
        )
    await writer.close()
