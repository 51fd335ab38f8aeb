"""Commands as an operator types them, and a record for them to read."""

import fcntl
import functools
import json
import os
import pty
import re
import shutil
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from premblyd.cli import main
from premblyd.feature import installed
from premblyd.ground.databases import DatabaseAddress
from tests.support import postgresql
from tests.support.configuration import ONCE, shell
from tests.support.daemon import Premblyd
from tests.support.database import by_hand, changing, new_place, rows, server_of, url_of
from tests.support.forking import Forked
from tests.support.logs import logging_as_before
from tests.support.marks import GUARD
from tests.support.postgresql import FOLDER
from tests.support.waiting import wait_until
from tests.support.webhooks import PATH, SECRET_PATH

_BODIES = Path(__file__).parents[1] / "payloads"
PAYLOADS = sorted(_BODIES.glob("[0-9]*.json"))
SAMPLES = sorted((_BODIES / "samples").glob("*.json"))  # those of `premblyd send`
# As if Prembly was to be asked about what is not settled.
AWAITED = """INSERT INTO awaited (endpoint, reference, event_id, state, due_at_ms, created_at_ms)
    SELECT endpoint, reference, id, 'waiting', received_at_ms + 60000, received_at_ms
    FROM event
    WHERE id IN (SELECT min(id) FROM event WHERE outcome = 'pending' GROUP BY reference)"""
LATER = {"attempts": 5, "first_delay": "1h"}
ACTIONS = [
    shell(
        "activate-customer", "echo no >&2; exit 3", "00", when="outcome == 'verified'", retry=ONCE
    ),
    {"name": "archive", "types": ["*"], "response_codes": ["00"], "command": ["cat"]},
    shell("page-operations", 'echo "paged for $PREMBLY_RESPONSE_CODE"', "02", "03"),
    shell("ask-compliance", "exit 1", "07", retry=LATER),
]
# Nothing of these may be seen without --reveal: they are in the samples' bodies.
PERSONAL = (
    *("22200000042", "AMINA", "11100000045", "TUNDE", "Tunde", "tunde.sample@example.com"),
    *("22200000057", "EMEKA", "zainab.sample@example.com", "0123400055", "CHIDI", "15000.00"),
)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command printed, and its exit status."""

    code: int
    out: str
    err: str


def run(*arguments: object, stdin: bytes | None = None, **environ: str) -> Ran:
    """Run a command in this process, whose logging it leaves as it was."""
    with logging_as_before():
        typed, env = [str(argument) for argument in arguments], _usual(arguments) | environ
        done = CliRunner().invoke(main, typed, input=stdin, env=env)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


def _usual(arguments: Sequence[object]) -> dict[str, str]:
    """Return the variable that makes a command's `--config` the usual one, so that no hint of it
    has to name that."""
    words = [str(argument) for argument in arguments]
    named = [after for word, after in pairwise(words) if word == "--config"]
    return {"PREMBLYD_CONFIG": named[-1]} if named else {}


def json_of(config: Path, *arguments: object) -> Any:
    """Return what a command that succeeds prints with --json."""
    done = run(*arguments, "--json", "--config", config)
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def read(config: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Return rows of the record of a configuration."""
    return rows(recorded_in(config), sql, *values)


def command(*arguments: object) -> list[str]:
    """Return the command line of a command in a process of its own."""
    return [sys.executable, "-m", "premblyd", *(str(argument) for argument in arguments)]


def run_process(*arguments: object, stdin: int = 0, before: str = "", **environ: str) -> Ran:
    """Run a command in a process of its own. `before` is Python that it runs first."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
        environment = os.environ | _usual(arguments) | environ
        process = Forked(
            arguments, environ=environment, before=before, stdin=stdin, stdout=out, stderr=error
        )
        try:
            code = process.wait()
        finally:
            process.kill()
        out.seek(0)
        error.seek(0)
        return Ran(code, out.read(), error.read())


def on_terminal(columns: int, *arguments: object, code: int = 0) -> list[str]:
    """Return the lines that a command prints on a terminal of `columns`, without their colours. It
    ends with this status."""
    ours, its = pty.openpty()
    try:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        environ |= {"TERM": "xterm", **_usual(arguments)}
        with Forked(arguments, environ=environ, stdin=its, stdout=its, stderr=its) as process:
            os.close(its)
            printed = b"".join(iter(lambda: _read(ours), b"")).decode()
        assert process.returncode == code, printed
    finally:
        os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed).splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # so Linux tells that nobody has the other end any more
        return b""


def record(folder: Path) -> Path:
    """Put a stopped daemon's configuration and database into `folder`: every sample and payload
    received, one of them twice, a forgery refused, one delivery replayed and one cancelled, and
    one event revealed. Return the configuration."""
    original = _recorded()
    shutil.copytree(original, folder, dirs_exist_ok=True)
    config = folder / "premblyd.yaml"
    place = recorded_in(original / "premblyd.yaml")
    if url := server_of(place):
        copy = new_place(folder, template=url.partition("@/")[2].partition("?")[0])
        config.write_text(config.read_text().replace(url_of(place), url_of(copy)))
    # What waits is not past its time, however long ago the record was made.
    with changing(recorded_in(config)) as database:
        now_ms = time.time_ns() // 1_000_000
        database.execute("UPDATE delivery SET due_at_ms = ? WHERE due_at_ms < ?", [now_ms, now_ms])
    config.chmod(0o640)
    return config


def recorded_in(config: Path) -> DatabaseAddress:
    """Return the database that a configuration names."""
    named: str = json.loads(config.read_text())["database"]
    is_server = named.startswith("postgresql")
    return postgresql.address(named) if is_server else config.with_name("premblyd.db")


@functools.cache
def _recorded() -> Path:
    """Return the session's record, which the first of its processes makes that needs it."""
    folder = Path(os.environ[FOLDER])
    with open(folder / "record.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "record").exists():
            GUARD.undo()  # this is for all tests of the session
            _make_record(made := Path(tempfile.mkdtemp(dir=folder)))
            made.rename(folder / "record")
    return folder / "record"


def _make_record(folder: Path) -> None:
    bodies = [path.read_bytes().rstrip(b"\n") for path in SAMPLES]
    bodies += [path.read_bytes() for path in PAYLOADS]
    with Premblyd(folder, actions=ACTIONS) as daemon:
        daemon.start()
        for number, body in enumerate([*bodies, bodies[0]]):
            assert daemon.send(body, token=f"token-{number % len(bodies)}").status == 200
        assert daemon.send(b"{}", x_prembly_signature="Zm9yZ2VkIQ==").status == 401
        begun = "SELECT count(*) FROM delivery WHERE attempt_count = 0 OR state = 'running'"
        wait_until(lambda: daemon.rows(begun) == [(0,)])
        wait_until(lambda: daemon.rows("SELECT count(*) FROM rejection") == [(1,)])
        assert daemon.stop() == 0
        (dead,) = daemon.rows("SELECT max(id) FROM delivery WHERE state = 'dead'")[0]
        (waiting,) = daemon.rows("SELECT min(id) FROM delivery WHERE state = 'pending'")[0]
    config = folder / "premblyd.yaml"
    if "asking" in installed():
        by_hand(recorded_in(config), AWAITED)
    for typed in (f"replay --delivery {dead}", f"cancel --delivery {waiting}", "show 1 --reveal"):
        assert run(*typed.split(), "--config", config).code == 0
    # Else `check` warns of the action that activates people by the signature alone.
    config.write_text(config.read_text().replace(json.dumps(PATH), json.dumps(SECRET_PATH)))
