"""`premblyd prune --vacuum`: the file of a stopped daemon is written anew, without what went."""

import json
import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from premblyd.engines.sqlite import packing
from premblyd.engines.sqlite.files import hold
from premblyd.engines.sqlite.residue import cleared
from premblyd.engines.sqlite.space import MARK
from tests.support.commands import record, run
from tests.support.database import rows
from tests.support.forking import Forked
from tests.support.rows import for_each

pytestmark = pytest.mark.sqlite
CANARY = "canary-" * 30
PAGE_BYTES = 4096


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A record as an earlier version left it: its file keeps what was deleted."""
    config = record(tmp_path / "record")
    path = database(config)
    new = path.with_name("old")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = none")
        connection.execute("VACUUM INTO ?", (str(new),))
    new.replace(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for text in ("application_id = 0", "journal_mode = wal", "secure_delete = off"):
            connection.execute(f"PRAGMA {text}")
        for number in range(200):
            words = (f"{CANARY}{number}",)
            connection.execute(
                "INSERT INTO alert_sent (name, kind, sent_at_ms) VALUES (?, '', 1)", words
            )
        connection.execute("DELETE FROM alert_sent")
    assert CANARY.encode() in path.read_bytes()
    return config


def database(config: Path) -> Path:
    return config.with_name("premblyd.db")


def contents(config: Path) -> list[object]:
    path = database(config)
    tables = rows(path, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    return [(name, rows(path, f"SELECT * FROM {name} ORDER BY 1, 2")) for (name,) in tables]


def test_nothing_is_left_of_what_was_deleted_and_all_else_is(config: Path) -> None:
    before = contents(config)
    done = run("prune", "--vacuum", "--config", config)
    assert (done.code, done.err.split(" ")[0]) == (0, "Packing")
    assert done.out.startswith(f"Packed {database(config)}: ")
    for file in config.parent.iterdir():
        assert CANARY.encode() not in file.read_bytes(), file
    assert contents(config) == before
    assert rows(database(config), "PRAGMA auto_vacuum") == [(2,)]
    assert rows(database(config), "PRAGMA application_id") == [(MARK,)]


def test_check_says_what_an_older_file_needs_until_it_was_done(config: Path) -> None:
    words = "Run `premblyd prune --vacuum` once"
    assert words in run("check", "--config", config).err
    sizes = json.loads(run("prune", "--vacuum", "--json", "--config", config).out)
    assert sizes["after_bytes"] < sizes["before_bytes"]
    assert words not in run("check", "--config", config).err


@for_each("clears", (True, False))
def test_check_says_as_a_fact_when_this_sqlite_can_not_clear_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clears: bool
) -> None:
    config = record(tmp_path / str(clears))
    monkeypatch.setattr(packing, "can_clear", lambda _: clears)
    checked = run("check", "--config", config, PREMBLYD_CONFIG="")
    assert ("without sqlite_dbpage" in checked.out, checked.err) == (not clears, "")
    assert (f"`premblyd --config {config} prune --vacuum`" in checked.out) == (not clears)


def test_what_sqlite_left_where_it_moved_rows_is_gone_afterwards(tmp_path: Path) -> None:
    """Also from a file of which no SQLite has ever cleared a page."""
    config = record(tmp_path)
    path = database(config)
    content = path.read_bytes()
    left = 0
    for at in range(PAGE_BYTES, len(content), PAGE_BYTES):
        page = content[at : at + PAGE_BYTES]
        free = bytes(len(CANARY) + 100)  # between the pointers to rows, and the rows
        if page[0] in (2, 10, 13) and (middle := page.find(free, 0, 2000)) >= 0:
            moved = page[: middle + 50] + CANARY.encode()
            moved += page[len(moved) :]
            if cleared(moved) == page:
                content = content[:at] + moved + content[at + PAGE_BYTES :]
                left += 1
    assert left
    path.write_bytes(content)
    before = contents(config)
    assert run("prune", "--vacuum", "--config", config).code == 0
    for file in config.parent.iterdir():
        assert CANARY.encode() not in file.read_bytes(), file
    assert contents(config) == before


def test_a_daemon_must_be_stopped_first(config: Path) -> None:
    with hold(database(config)):
        done = run("prune", "--vacuum", "--config", config)
    assert done.code == 75
    assert "Another premblyd uses" in done.err


def test_who_reads_what_was_there_is_named(config: Path) -> None:
    with closing(sqlite3.connect(database(config), isolation_level=None)) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM event").fetchone()
        done = run("prune", "--vacuum", "--config", config)
        assert (done.code, f"Process {os.getpid()} reads" in done.err) == (75, True)
    assert run("prune", "--vacuum", "--config", config).code == 0


def test_without_room_on_the_disk_nothing_is_begun(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = os.statvfs(config.parent)
    full = os.statvfs_result([*stated[:4], 1, *stated[5:]])
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    before = database(config).read_bytes()
    done = run("prune", "--vacuum", "--config", config)
    assert (done.code, "needs" in done.err) == (1, True)
    assert database(config).read_bytes() == before


KILLED = """
import os
from premblyd.engines.sqlite import packing

clear_log = packing._clear_log

def clear_log_once(database):
    clear_log(database)
    database.connection().set_progress_handler(lambda: os.kill(os.getpid(), 9), {steps})

packing._clear_log = clear_log_once
"""


@for_each("steps", (50, 1_000))
def test_killed_in_the_middle_all_is_there_and_it_can_be_done_again(
    config: Path, steps: int
) -> None:
    """In a process of its own, as that is killed, at so many of SQLite's steps."""
    before = contents(config)
    arguments = ("prune", "--vacuum", "--yes", "--config", config)
    with Forked(arguments, before=KILLED.format(steps=steps), stderr=subprocess.PIPE) as process:
        assert process.wait() == -signal.SIGKILL
    assert contents(config) == before
    assert run("prune", "--vacuum", "--config", config).code == 0
    assert contents(config) == before


def test_it_counts_nothing(config: Path) -> None:
    done = run("prune", "--vacuum", "--dry-run", "--config", config)
    assert (done.code, "removes no rows" in done.err) == (2, True)
