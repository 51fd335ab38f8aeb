"""The campaign of moves: `premblyd move` there and back, killed at random moments, again and again.

    python -m tests.faults.moving --cycles 20 [--events N] [--kills N] [--large N] [--seed N]

In each cycle a record is moved to PostgreSQL and back to a new file. Each move is killed `kills`
times, then let end. Both databases must then have every row of the first. Without kills it shows
how fast a move is, and how much memory it takes: --cycles 1 --kills 0 --events 1000000; --large:
how many of the events have bodies of 16 MiB.
"""

import os
import random
import resource
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from signal import SIGKILL

from premblyd.databases import DatabaseAddress, Server
from tests.faults import campaigns
from tests.faults.daemon import folder, table
from tests.support import postgresql
from tests.support.commands import command
from tests.support.daemon import Premblyd
from tests.support.moving import insert_all, odd_rows, rows_of

LONGEST_S = 4.0  # of a move that is killed, unless a whole one takes less
LARGE_BYTES = 16 << 20
BUILD = "import sys; stored.build(Path(sys.argv[1]), int(sys.argv[2]))"


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
        # In a process of its own: what starts from a large one is counted as large.
        build = f"from pathlib import Path; from tests.bench import stored; {BUILD}"
        subprocess.run([sys.executable, "-c", build, path, str(events)], check=True)
        if events == 0:
            insert_all(path, odd_rows())
        with closing(sqlite3.connect(path)) as connection, connection:
            grown = "UPDATE event SET body = randomblob(?) WHERE id <= ?"
            connection.execute(grown, (LARGE_BYTES, large))
        self.figures["bytes of the file"] = path.stat().st_size
        return path

    def run(self, first: Path, cycles: int, kills: int, *, compare: bool = True) -> list[str]:
        """Run the campaign and return every broken promise."""
        before = rows_of(first) if compare else {}
        for cycle in range(cycles):
            server = postgresql.new_database(self._cluster)
            back = self._at / f"back-{cycle}.db"
            for source, target in ((first, server), (server, back)):
                if not self._move(source, target, kills):
                    return self.problems
                if compare and rows_of(target) != before:
                    self.problems.append(f"cycle {cycle}: {target} has other rows")
            back.unlink()
            with self._cluster.connect() as connection:
                connection.execute(f"DROP DATABASE {server.url.split('/')[3].partition('?')[0]}")
        return self.problems

    def _move(self, source: DatabaseAddress, target: DatabaseAddress, kills: int) -> bool:
        """Return whether all was moved in the end."""
        self._daemon.configure(database=_url(source))
        for _ in range(kills):
            code, took_s, _ = self._process(target, self.rng.uniform(0.2, self._longest_s))
            if code == 0:  # it was faster; the next is killed sooner
                self._longest_s = max(0.3, took_s * 0.9)
                return True
            if code != -SIGKILL:
                self.problems.append(f"a move to {_url(target)} ended with {code}")
            self.figures["kills"] += 1
        code, took_s, usage = self._process(target, None)
        assert usage is not None
        if code != 0:
            self.problems.append(f"the last move to {_url(target)} ended with {code}")
        way = "there" if isinstance(target, Server) else "back"
        self.figures[f"moves {way}"] += 1
        self.figures[f"ms of the last move {way}"] = round(took_s * 1000)
        processor_s = usage.ru_utime + usage.ru_stime
        self.figures[f"ms of its own processor time {way}"] = round(processor_s * 1000)
        self.figures[f"MiB of memory {way}"] = usage.ru_maxrss >> 10
        return code == 0

    def _process(
        self, target: DatabaseAddress, kill_after_s: float | None
    ) -> tuple[int, float, resource.struct_rusage | None]:
        """Return how a move ended, after how long, and what it took; None: it was too fast to be
        killed."""
        began_s = time.monotonic()
        arguments = command("--config", self._daemon.config, "move", _url(target))
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


def _url(place: DatabaseAddress) -> str:
    return f"sqlite:///{place}" if isinstance(place, Path) else str(place)


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
        rows = sum(len(found) for found in rows_of(first).values()) if compare else 0
        table({**campaign.figures, "rows": rows, "broken promises": len(problems)})
        if problems:
            print(campaign.said()[-3000:])
        campaigns.end(problems)


if __name__ == "__main__":
    main()
