"""The campaign of moves: `premblyd record move`, killed at random moments, again and again.

    python -m tests.faults.moving --cycles 20 [--events N] [--kills N] [--large N] [--seed N]

In each cycle a record is moved to a new database. A move is killed `kills` times, of which nothing
may be there, then let end. Then every row must be there. Without kills it shows how fast a move is,
and how much memory it takes: --cycles 1 --kills 0 --events 1000000; --large: how many of the events
have bodies of 16 MiB.
"""

import os
import random
import resource
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from signal import SIGKILL
from typing import Any

from premblyd.databases import Server
from premblyd.engines.connections import backend
from tests.faults import campaigns
from tests.faults.daemon import folder, table
from tests.support import postgresql
from tests.support.commands import command
from tests.support.daemon import Premblyd
from tests.support.moving import TABLES, insert_all, odd_rows, plain_row, rows_of
from tests.support.postgresql import rows
from tests.support.waiting import wait_until

LONGEST_S = 4.0  # of a move that is killed, unless a whole one takes less
LARGE_BYTES = 16 << 20
IS_MADE = "SELECT to_regclass('event') IS NOT NULL"
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE (datname, backend_type) = (current_database(), 'client backend')
    AND pid <> pg_backend_pid()
"""


class Campaign:
    """Cycles of moves, kills and comparisons."""

    def __init__(self, at: Path, cluster: postgresql.Cluster, seed: int) -> None:
        self.rng = random.Random(seed)
        self.figures: Counter[str] = Counter()
        self.problems: list[str] = []
        self._cluster = cluster
        self._at = at
        self._daemon = Premblyd(at)
        self._longest_s = LONGEST_S

    def build(self, events: int, large: int = 0) -> Path:
        """Make the record that is moved."""
        path = self._at / "first.db"
        backend(path).prepare()
        insert_all(path, odd_rows())
        insert_all(path, map(_event, range(1000, 1000 + events)))
        with closing(sqlite3.connect(path)) as connection, connection:
            grown = "UPDATE event SET body = randomblob(?) WHERE id < ?"
            connection.execute(grown, (LARGE_BYTES, 1000 + large if large else 0))
        self.figures["bytes of the file"] = path.stat().st_size
        return path

    def run(self, first: Path, cycles: int, kills: int, *, compare: bool = True) -> list[str]:
        """Run the campaign and return every broken promise."""
        before = rows_of(first) if compare else {}
        self._daemon.configure(database=f"sqlite:///{first}")
        for cycle in range(cycles):
            server = postgresql.new_database(self._cluster)
            if not self._move(server, kills):
                break
            if compare and rows_of(server) != before:
                self.problems.append(f"cycle {cycle}: the server has other rows")
            with self._cluster.connect() as connection:
                connection.execute(f"DROP DATABASE {server.url.split('/')[3].partition('?')[0]}")
        return self.problems

    def _move(self, target: Server, kills: int) -> bool:
        """Return whether all was moved in the end."""
        for _ in range(kills):
            code, took_s, _ = self._process(target, self.rng.uniform(0.2, self._longest_s))
            if code == 0:  # it was faster; the next is killed sooner
                self._longest_s = max(0.3, took_s * 0.9)
                return True
            if code != -SIGKILL:
                self.problems.append(f"a move ended with {code}")
            wait_until(lambda: rows(target, SESSIONS) == [(0,)])  # the server notices later
            if rows(target, IS_MADE) == [(True,)] and any(rows_of(target)["event"]):
                self.problems.append("a move that was killed has left something")
            self.figures["kills"] += 1
        code, took_s, usage = self._process(target, None)
        assert usage is not None
        if code != 0:
            self.problems.append(f"the last move ended with {code}")
        self.figures["moves"] += 1
        self.figures["ms of the last move"] = round(took_s * 1000)
        self.figures["ms of its own processor time"] = round(
            (usage.ru_utime + usage.ru_stime) * 1000
        )
        self.figures["MiB of memory"] = usage.ru_maxrss >> 10
        return code == 0

    def _process(
        self, target: Server, kill_after_s: float | None
    ) -> tuple[int, float, resource.struct_rusage | None]:
        """Return how a move ended, after how long, and what it took; None: it was too fast to be
        killed."""
        began_s = time.monotonic()
        arguments = command("--config", self._daemon.config, "record", "move", target.url)
        with open(self._at / "said", "ab") as said:
            move = subprocess.Popen(arguments, stdout=said, stderr=said)
        if kill_after_s is not None:
            try:
                move.wait(kill_after_s)
            except subprocess.TimeoutExpired:
                move.kill()
            else:
                return move.returncode, time.monotonic() - began_s, None
        _, status, usage = os.wait4(move.pid, 0)
        move.returncode = os.waitstatus_to_exitcode(status)
        return move.returncode, time.monotonic() - began_s, usage

    def said(self) -> str:
        """Return what all moves printed."""
        return (self._at / "said").read_text()


def _event(number: int) -> tuple[str, dict[str, Any]]:
    own = {"id": number, "key": f"event {number}", "body": b"%d" % number * 200}
    return "event", plain_row(TABLES["event"]) | own


def main() -> None:
    arguments = campaigns.arguments(
        __doc__, cycles=20, events=20_000, kills=5, large=0, seed=campaigns.ANY
    )
    with folder() as at, postgresql.cluster() as cluster:
        cluster.start()
        campaign = Campaign(at, cluster, arguments.seed)
        first = campaign.build(arguments.events, arguments.large)
        start = time.monotonic()
        compare = arguments.events <= 100_000 and not arguments.large
        problems = campaign.run(first, arguments.cycles, arguments.kills, compare=compare)
        print(f"{arguments.cycles} cycles, seed {arguments.seed}, {time.monotonic() - start:.0f} s")
        count = sum(len(found) for found in rows_of(first).values()) if compare else 0
        table({**campaign.figures, "rows": count, "broken promises": len(problems)})
        if problems:
            print(campaign.said()[-3000:])
        campaigns.end(problems)


if __name__ == "__main__":
    main()
