"""The rows that compare PostgreSQL with SQLite, and several daemons with one.

The server is a cluster of its own with PostgreSQL's own defaults: a commit is on the disk before it
returns, as with SQLite.
"""

import asyncio
import contextlib
from pathlib import Path

import psycopg

from premblyd.databases import Server
from premblyd.engines.connections import backend
from tests.bench import keeping, peers, rows, serving, stored, timed
from tests.bench.rows import Measured, Row
from tests.support import postgresql

HOOK_S = 0.1
SLOTS = 8  # hooks at once on each host: 80 of HOOK_S end in a second


def accept(seconds: float) -> Row:
    """Durable accept on PostgreSQL against the same on SQLite."""

    def ours() -> Measured:
        with postgresql.server() as place:
            return serving.accepted(seconds, place=place)

    return Row(
        name="postgresql",
        title="durable accept on PostgreSQL, beside it on the machine",
        peer="on SQLite",
        needs=("wrk",),
        goals=serving.goals(),
        ours=ours,
        theirs=lambda: serving.accepted(seconds),
    )


def claim(folder: Path, events: int) -> Row:
    """A claim in a large database on PostgreSQL against the same on SQLite."""
    cluster = postgresql.Cluster(folder / "postgresql")

    def ours() -> Measured:
        if not cluster.data.exists():
            folder.chmod(0o755)  # the server is no process of root's
            cluster.create()
            cluster.start()
            build(postgresql.new_database(cluster), events)
            cluster.stop()
        cluster.start()
        try:
            with cluster.connect() as connection:
                [(name,)] = connection.execute(
                    "SELECT datname FROM pg_database WHERE datname LIKE 'premblyd%'"
                ).fetchall()
            engine = backend(Server(cluster.url(name))).engine()
            return {"claim": asyncio.run(keeping.claim_ms(engine))}
        finally:
            cluster.stop()

    def theirs() -> Measured:
        path = keeping.prepared(folder, events) / "premblyd.db"
        return {"claim": asyncio.run(keeping.claim_ms(backend(path).engine()))}

    return Row(
        name="claim",
        title=f"claim {timed.SLOTS} of {stored.waiting(events):,} among {events:,}, PostgreSQL",
        peer="SQLite",
        goals=(rows.time("claim", "a claim without its commit"),),
        ours=ours,
        theirs=theirs,
    )


def hosts(count: int, events: int) -> Row:
    """Several daemons on one database against one: all webhooks come to the first of them."""

    def measure(daemons: int) -> Measured:
        hook = {"name": "slow", "command": ["/bin/sleep", str(HOOK_S)], "concurrency": SLOTS}
        actions = [{**hook, **serving.EVERY}]
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(postgresql.server())
            first, *_ = [
                stack.enter_context(peers.premblyd(place=place, actions=actions))
                for _ in range(daemons)
            ]
            return {"rate": serving.until_finished(first, events)["rate"]}

    return Row(
        name=f"hosts{count}",
        title=f"hooks of {HOOK_S:g} s, {SLOTS} at once on each of {count} daemons",
        peer="one daemon",
        goals=(rows.rate("rate", "finished hooks"),),
        ours=lambda: measure(count),
        theirs=lambda: measure(1),
    )


def build(place: Server, events: int) -> None:
    """Make the database that `stored.build` makes in a file."""
    backend(place).prepare()
    with psycopg.connect(place.url) as connection:
        for table, columns, values in stored.tables(events):
            names = ", ".join(columns)
            with connection.cursor().copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in values:
                    copy.write_row(row)
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
