"""Measure premblyd and its peers side by side.

    python -m tests.bench [--rounds N] [--only NAME ...] [--seconds S]
    python -m tests.bench --against CHECKOUT [--rounds N] [--seconds S]

We and the peer take turns, and the median of the ratios of all rounds counts. Everything listens on
127.0.0.1 alone, and databases are in the temporary folder (TMPDIR): that should be on a real
disk, or a durable accept costs nothing.

With --against the peer is an earlier premblyd, such as that of `git worktree add ../before v0.1.0`,
and accepting is compared. Many short rounds tell most: --rounds 20 --seconds 2. What --against this
very checkout shows is the noise.
"""

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import costs, earlier, report, serving, workers
from tests.bench.load import LoadError
from tests.bench.rows import Outcome, Row, play
from tests.support.needs import UnavailableError

SCRIPTS = 400  # events for which Python is started
RUNS = 2000  # events for which /bin/true is run in a round


def main() -> int:
    """Return 0 when all was measured, 1 when a row was skipped or failed."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="premblyd-bench-") as name:
        _compile(Path(name, "compiled"))
        if options.against is None:
            return _measure(Path(name), _rows(Path(name), options.seconds), options)
        try:
            with earlier.accept(options.against.resolve(), options.seconds) as row:
                return _measure(Path(name), [row], options)
        except LoadError as error:
            print(error, file=sys.stderr)
            return 1


def _measure(folder: Path, rows: list[Row], options: argparse.Namespace) -> int:
    outcomes: list[Outcome] = []
    incomplete = False
    for row in rows:
        if row.name not in (options.only or [row.name]):
            continue
        if lacking := _lacking(row):
            print(f"{row.name}: skipped; {lacking}", file=sys.stderr)
            incomplete = True
            continue
        begun = time.monotonic()
        try:
            outcomes += play(row, options.rounds)
        # wait_until asserts that it happens
        except (LoadError, UnavailableError, AssertionError) as error:
            print(f"{row.name}: failed: {error}", file=sys.stderr)
            incomplete = True
            continue
        load = " ".join(f"{average:.1f}" for average in os.getloadavg())
        print(f"{row.name}: {time.monotonic() - begun:.0f} s, load {load}", file=sys.stderr)
    note = f"medians of {options.rounds} rounds, Python {platform.python_version()}"
    print(f"{note}, {os.cpu_count()} cores, {serving.fsync_ms(folder):.2f} ms for an fsync")
    report.print_table(outcomes)
    return 1 if incomplete else 0


def _lacking(row: Row) -> str:
    """Return how what a row needs is installed; empty if it is."""
    programs = [program for program in row.needs if shutil.which(program) is None]
    if programs:
        return f"apt-get install {' '.join(programs)}"
    is_whole = all(importlib.util.find_spec(library) for library in row.libraries)
    return "" if is_whole else "pip install -e '.[bench]'"


def _compile(folder: Path) -> None:
    """Let every process that is measured find premblyd compiled, as it is once installed."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
    imports = "import premblyd.cli.serve, premblyd.daemon"
    subprocess.run([sys.executable, "-c", imports], check=True)


def _rows(folder: Path, seconds: float) -> list[Row]:
    return [
        serving.accept(seconds),
        serving.durable(seconds),
        serving.durable_by_threads(seconds),
        serving.with_features(seconds),
        serving.elsewhere(seconds),
        serving.run(RUNS),
        workers.worker(RUNS),
        workers.worker_script(SCRIPTS),
        workers.backlog(folder, RUNS),
        costs.start(),
        costs.memory(),
    ]


def _options() -> argparse.Namespace:
    names = [row.name for row in _rows(Path(), 0)]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="NAME")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="an earlier premblyd's")
    parser.add_argument("--seconds", type=float, default=5, metavar="S", help="of each load")
    parser.epilog = f"NAME is one of {', '.join(names)}."
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
