"""The rows about a large database: what its size does to answers, to the queue and to people."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from premblyd import times
from tests.bench import filled, load, peers, rows, serving
from tests.bench.filled import Filling
from tests.bench.rows import Measured, Row
from tests.bench.serving import EVERY
from tests.support import commands
from tests.support.daemon import Premblyd
from tests.support.database import changing

REPLAYED = 100_000  # events
ERASED_OF, RATE = 10_000, 50.0
# Their one slot is taken for as long as we measure, so that what is due has to wait; an action
# with free slots makes the daemon look for work all the same.
ACTIONS = (
    {"name": filled.SLOW, "command": ["/bin/sleep", "600"], "concurrency": 1, **EVERY},
    {
        "name": filled.DONE,
        "command": ["/bin/sleep", "600"],
        "concurrency": 1,
        "response_codes": ["99"],
    },
    {"name": "other", "command": ["/bin/true"], "response_codes": ["99"]},
)


def replaying(folder: Path, events: int, seconds: float) -> Row:
    """Answers at a steady rate while an operator replays all of a large record, against nobody who
    does."""
    count = min(events, REPLAYED)
    since = ("--action", filled.DONE, "--since", "2020-01-01", "--yes")
    return _beside(folder, count, seconds, ("replaying", "replay"), 3.0, ("replay", *since))


def backing_up(folder: Path, events: int, seconds: float) -> Row:
    """The same while a large record is copied."""
    copies = folder / "copies"
    words = ("record", "backup", copies, "--keep", "1")
    copies.mkdir(0o700, exist_ok=True)
    return _beside(folder, events, seconds, ("backup", "backup"), 2.0, words)


def _beside(
    folder: Path,
    count: int,
    seconds: float,
    names: tuple[str, str],
    bound: float,
    words: Sequence[object],
) -> Row:
    name, what = names

    def measure(is_beside: bool) -> Measured:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            own = Path(shutil.copytree(prepared(folder, count), place, dirs_exist_ok=True))
            with peers.premblyd(own, actions=ACTIONS) as daemon, contextlib.ExitStack() as stack:
                process = stack.enter_context(_command(daemon, words)) if is_beside else None
                answers = serving.steady(daemon, seconds)  # raises for an answer that is not 200
                if process is not None:
                    if process.poll() is not None:
                        raise load.LoadError(f"the {what} ended before the load did")
                    process.kill()
                return {"p99": answers.p99_ms, "most": max(answers.took_s) * 1000}

    return Row(
        name=name,
        title=f"answers at {serving.STEADY_RATE:g}/s beside a {what} of {count:,}",
        peer=f"no {what}",
        goals=(
            rows.time("p99", "p99 of answers", bound, 1.5),
            rows.time("most", "the slowest answer"),
        ),
        ours=lambda: measure(True),
        theirs=lambda: measure(False),
    )


def _command(daemon: Premblyd, words: Sequence[object]) -> "subprocess.Popen[bytes]":
    whole = commands.command("--config", daemon.config, *words)
    return subprocess.Popen(whole, stdout=subprocess.DEVNULL)


def prepared(folder: Path, events: int) -> Path:
    """Return the folder of the database of `events` events, made when it is first asked for."""
    own = folder / str(events)
    if not own.exists():
        own.mkdir()
        filled.fill(own / "premblyd.db", Filling(events, times.now_ms()))
    return own


def erasing(folder: Path, events: int, seconds: float) -> Row:
    """Answers at 50/s while a person of 1,000 events is erased, and the file written anew, against
    nobody who is."""
    count = min(events, ERASED_OF)

    def measure(erases: bool) -> Measured:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            own = Path(shutil.copytree(prepared(folder, count), name, dirs_exist_ok=True))
            with changing(own / "premblyd.db") as database:
                database.execute(
                    f"UPDATE event SET user_ref = 'one' WHERE id % {count // 1000} = 0"
                )
                database.execute("UPDATE record SET vacuum_rate = ?", [1 << 40])  # it is live
            with peers.premblyd(own, actions=ACTIONS) as daemon, contextlib.ExitStack() as stack:
                words = ("person", "erase", "--user-ref", "one", "--yes")
                process = stack.enter_context(_command(daemon, words)) if erases else None
                answers = serving.steady(daemon, seconds, RATE)  # raises for one that is not 200
                if process is not None and process.wait() != 0:
                    raise load.LoadError("the erasure failed")
                if erases and daemon.rows("SELECT vacuumed_at_ms FROM erasure") == [(None,)]:
                    raise load.LoadError("it was not written anew")
                return {"p99": answers.p99_ms, "most": max(answers.took_s) * 1000}

    return Row(
        name="erasing",
        title=f"answers at {RATE:g}/s beside an erasure of 1,000 events of {count:,}",
        peer="nobody is erased",
        goals=(rows.time("p99", "p99 of answers"), rows.time("most", "the slowest answer")),
        ours=lambda: measure(True),
        theirs=lambda: measure(False),
    )
