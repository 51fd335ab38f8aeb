"""What it takes, beside a million events, to erase a person and to remove what is old.

    python -m tests.bench.removing [--events N] [--only NAME …] [--keep FILE]

Figures alone: nothing here fails because it is slow.
"""

import argparse
import contextlib
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from premblyd import times
from tests.bench import load, million, peers, serving
from tests.faults.daemon import table
from tests.support.daemon import Premblyd
from tests.support.forking import Forked

LOAD_S = 30.0
PATIENCE_S = 1800.0
PERSON, CROWD = 20, 20_000  # events of a person, and of one whom a program made up
NAMES = 100_000  # erased ones, beside which is accepted
HOLDS = 20_000
OF_PERSON = """
UPDATE event SET user_ref = ?, reference = 'of-person-' || id, session_id = 'session-' || id
WHERE id % ? = ?
"""
HELD = """
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :count)
INSERT INTO hold (user_ref, reference, at_ms, actor)
SELECT CASE n % 2 WHEN 0 THEN 'user-' || (n * 3) END,
       CASE n % 2 WHEN 1 THEN printf('ref-%07d', n * 7) END, 1, 'bench' FROM number
"""
Figures = dict[str, object]


class Bench:
    """A record of so many events, and what is done to copies of it."""

    def __init__(self, folder: Path, events: int, kept: Path | None, asked: Any) -> None:
        self._whole, self._classes, self._rate = asked.whole, asked.classes, asked.rate
        self._folder = folder
        self._events = events
        self._original = kept or folder / "original.db"

    def original(self) -> Path:
        """Return the record, made when it is first asked for."""
        if not self._original.exists():
            million.build(self._original, self._events, times.now_ms())
            with closing(sqlite3.connect(self._original)) as connection:
                with connection:
                    for name, count in (("person", PERSON), ("crowd", CROWD)):
                        every = max(1, self._events // count)
                        connection.execute(OF_PERSON, (name, every, len(name) % every))
                connection.execute("PRAGMA wal_checkpoint(truncate)")
        return self._original

    @contextlib.contextmanager
    def record(self) -> Iterator[Path]:
        """Give a folder with a copy of the record."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            shutil.copy(self.original(), Path(name) / "premblyd.db")
            yield Path(name)

    def erase(self) -> Figures:
        """Erase people beside a running daemon."""
        figures: Figures = {}
        with self.record() as folder, peers.premblyd(folder) as daemon:
            baseline_ms = _command_ms(daemon, "events", "--limit", "1")
            figures["ms of a command that does nothing"] = baseline_ms
            for name, count in (("person", PERSON), ("crowd", CROWD)):
                sql = "SELECT count(*) FROM event WHERE user_ref = ?"
                [(found,)] = daemon.rows(sql, name)
                took_ms = _command_ms(daemon, "erase", "--user-ref", name, "--yes")
                figures[f"ms to erase {found:,} events of {count:,}"] = took_ms
        return figures

    def retention(self) -> Figures:
        """Remove half of the record beside webhooks."""
        figures: Figures = {}
        for removed in self._classes:
            with self.record() as folder:
                database = folder / "premblyd.db"
                with peers.premblyd(folder) as daemon:
                    before = serving.steady(daemon, LOAD_S, self._rate)
                size = database.stat().st_size
                retention = {removed: f"{million.DAYS // 2}d"}
                with peers.premblyd(folder, retention=retention) as daemon:
                    _wait_until(lambda: _removed(daemon) > 0)
                    begun, before_load = time.monotonic(), _removed(daemon)
                    during = serving.steady(daemon, LOAD_S, self._rate)
                    in_load = _removed(daemon) - before_load
                    if self._whole:
                        _wait_until_swept(daemon)
                    took_s = time.monotonic() - begun
                    total = _removed(daemon)
                figures |= {
                    f"{removed}: removed": f"{total:,} in {took_s:.0f} s",
                    f"{removed}: removed beside {self._rate:g}/s": f"{in_load / LOAD_S:,.0f}/s",
                    f"{removed}: ms p50/p99 of answers before": _percentiles(before),
                    f"{removed}: ms p50/p99 of answers meanwhile": _percentiles(during),
                    f"{removed}: MiB of the file": _shrunk(size, database),
                }
        return figures

    def accept(self) -> Figures:
        """Accept with and without names that were erased: processor time for each webhook."""
        figures: Figures = {}
        for count in (0, NAMES):
            with tempfile.TemporaryDirectory(dir=self._folder) as name:
                with peers.premblyd(Path(name)) as daemon:
                    pass
                with closing(sqlite3.connect(daemon.database)) as connection, connection:
                    connection.executemany(
                        "INSERT INTO erased_name (name, erasure_id) VALUES (?, 1)",
                        ((f"{number:064x}",) for number in range(count)),
                    )
                taken = [_accept_ms(daemon) for _ in range(3)]
            figures[f"processor ms a webhook, {count:,} erased names"] = (
                f"{statistics.median(taken):.4f} ({min(taken):.4f} to {max(taken):.4f})"
            )
        return figures

    def many(self) -> Figures:
        """Ask, remove and erase beside very many holds."""
        figures: Figures = {}
        with self.record() as folder:
            with closing(sqlite3.connect(folder / "premblyd.db")) as connection, connection:
                connection.execute(HELD, {"count": HOLDS})
            retention = {"record": f"{million.DAYS // 2}d"}
            with peers.premblyd(folder) as daemon:
                for words in (
                    ("status",),
                    ("check",),
                    ("hold", "--list", "--json"),
                    ("erase", "--user-ref", "person", "--yes"),
                ):
                    figures[f"ms of {' '.join(words)}"] = _command_ms(
                        daemon, *words, codes=range(3)
                    )
            with peers.premblyd(folder, retention=retention) as daemon:
                begun = time.monotonic()
                figures["ms of prune --dry-run"] = _command_ms(daemon, "prune", "--dry-run")
                figures["ms p50/p99 of answers meanwhile"] = _percentiles(
                    serving.steady(daemon, LOAD_S, self._rate)
                )
                each_s = (time.monotonic() - begun) / max(1, _removed(daemon))
                figures["ms for each record removed meanwhile"] = round(each_s * 1000, 2)
        return figures


def _shrunk(before: int, path: Path) -> str:
    return f"{before >> 20} -> {path.stat().st_size >> 20}"


def _percentiles(answers: load.Answers) -> str:
    return f"{answers.p50_ms:.2f} / {answers.p99_ms:.2f}"


def _accept_ms(daemon: Premblyd) -> float:
    with peers.premblyd(daemon.folder) as running:
        before = peers.processor_s(running)
        taken = load.wrk(running.address, clients=16, seconds=5)
        return (peers.processor_s(running) - before) / taken.answers * 1000


def _command_ms(daemon: Premblyd, *words: object, codes: Collection[int] = (0,)) -> int:
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        with Forked([*words, "--config", daemon.config], stdout=said, stderr=said) as process:
            code = process.wait(PATIENCE_S)
        took_ms = round((time.perf_counter() - begun) * 1000)
        said.seek(0)
        if code not in codes:
            raise load.LoadError(f"{words[0]} ended with {code}: {said.read()[-500:]}")
    return took_ms


def _removed(daemon: Premblyd) -> int:
    [(count,)] = daemon.rows("SELECT coalesce(sum(count), 0) FROM removal")
    return int(count)


def _wait_until(check: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not check():
        if time.monotonic() - begun > PATIENCE_S:
            raise load.LoadError("it did not end in time")
        time.sleep(0.5)


def _wait_until_swept(daemon: Premblyd) -> None:
    """Wait until nothing more is removed for a while."""
    last = [-1]

    def is_still() -> bool:
        time.sleep(5)
        last.append(_removed(daemon))
        return last[-1] == last[-2] > 0

    _wait_until(is_still)


CLASSES = ("record", "identity", "body")
NAMES_OF_ALL = ("erase", "retention", "accept", "many")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="+", choices=NAMES_OF_ALL, default=NAMES_OF_ALL)
    parser.add_argument("--keep", type=Path, help="Where to keep the record; used if it is there.")
    parser.add_argument(
        "--rate", type=float, default=serving.STEADY_RATE, help="Webhooks a second."
    )
    parser.add_argument("--classes", nargs="+", default=CLASSES, choices=CLASSES)
    whole = "Wait until all is removed that is over, and the file is small."
    parser.add_argument("--whole", action="store_true", help=whole)
    parser.add_argument("--dir", type=Path, help="Where the copies are.")
    asked: Any = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.dir) as folder:
        bench = Bench(Path(folder), asked.events, asked.keep, asked)
        for name in asked.only:
            print(name, flush=True)
            table(getattr(bench, name)())


if __name__ == "__main__":
    main()
