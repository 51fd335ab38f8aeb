"""The rows that compare PostgreSQL and an encrypted file with a plain one, and several daemons with
one.

The server is a cluster of its own with PostgreSQL's own defaults: a commit is on the disk before it
returns, as with SQLite.
"""

import contextlib
import tempfile
from pathlib import Path

from premblyd.engines.connections import backend
from tests.bench import peers, rows, serving
from tests.bench.rows import Measured, Row
from tests.support import database, postgresql

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


def encrypted(seconds: float) -> Row:
    """Durable accept into an encrypted file against the same into a plain one."""

    def ours() -> Measured:
        with tempfile.TemporaryDirectory() as name:
            place = database.file_in(Path(name), is_encrypted=True)
            backend(place).prepare()
            return serving.accepted(seconds, folder=Path(name), place=place)

    return Row(
        name="encryption",
        title="durable accept into an encrypted file",
        peer="into a plain one",
        needs=("wrk",),
        goals=serving.goals(0.8),
        ours=ours,
        theirs=lambda: serving.accepted(seconds),
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
