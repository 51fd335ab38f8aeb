"""The daemon's composition: what was opened is closed again, also when the start fails half-way."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from premblyd import daemon as composition
from premblyd import presence
from premblyd.config.load import load_config
from premblyd.daemon import Daemon
from premblyd.databases import Place, Server
from premblyd.errors import PremblydError
from premblyd.hooks.http.runner import HttpRunner
from premblyd.loops import Loops
from tests.support.database import new_place, url_of
from tests.support.waiting import wait_until

CONFIG = """
listen: unix:{folder}/socket
database: "{database}"
endpoints: [{{name: prembly, path: /webhooks/prembly, keys: {{live: a-key}}}}]
"""
# What the start calls, in its order; each may fail.
STEPS = (
    "backend",
    "Writer",
    pytest.param("Queue.recover", marks=pytest.mark.sqlite),  # there it is part of joining
    "find_marks",
    "Runners.make",
    "Runners.second",
    "Dispatcher",
    "Receiver",
    "listening.listen",
    "make_server",
    "patient_listeners",
    "presence.publish",
    "Heartbeat.begin",
    "Loops.__aenter__",
    "Loops.start",
)


def configured(folder: Path, place: Place) -> Daemon:
    path = folder / "premblyd.yaml"
    path.write_text(CONFIG.format(folder=folder, database=url_of(place)))
    return Daemon(load_config(path), path)


def open_files() -> list[str]:
    """Return what this process's descriptors are."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:  # the one that listed them
            continue
    return sorted(found)


def fail(*arguments: Any, **_: Any) -> Any:
    for argument in arguments:
        if asyncio.iscoroutine(argument):
            argument.close()  # so that it does not warn that nobody waited for it
    raise ZeroDivisionError


# For each path on its standard input: whether it can have the lock, which it gives back.
LOCKING = """
import os, pathlib, sys
from premblyd.errors import AlreadyRunningError
from premblyd.store.sqlite.lock import lock
for line in sys.stdin:
    try:
        os.close(lock(pathlib.Path(line.rstrip())))
        print("yes", flush=True)
    except AlreadyRunningError:
        print("no", flush=True)
"""


@pytest.fixture(scope="module")
def can_lock() -> Iterator[Callable[[Place], bool]]:
    """Return whether another process can run a daemon on a database; on a server any can."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:

        def ask(database: Place) -> bool:
            if isinstance(database, Server):
                return True
            assert other.stdin
            assert other.stdout
            print(database, file=other.stdin, flush=True)
            answer = other.stdout.readline().strip()
            assert answer in ("yes", "no"), answer
            return answer == "yes"

        yield ask


@pytest.mark.parametrize("step", STEPS)
def test_a_start_that_fails_leaves_nothing_open(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    can_lock: Callable[[Place], bool],
    step: str,
) -> None:
    threads_before = set(threading.enumerate())
    place = new_place(tmp_path)

    async def start() -> tuple[list[str], list[str]]:
        daemon = configured(tmp_path, place)
        before = open_files()
        if step == "Runners.second":
            monkeypatch.setattr(HttpRunner, "__init__", fail)
        else:
            monkeypatch.setattr(f"{composition.__name__}.{step}", fail)
        with pytest.raises(ZeroDivisionError):
            await daemon.__aenter__()
        return before, open_files()

    before, after = asyncio.run(start())
    assert after == before
    wait_until(lambda: set(threading.enumerate()) <= threads_before)
    assert not (tmp_path / "socket").exists()
    assert can_lock(place)


def test_a_stop_leaves_nothing_open_and_tells_commands_so(
    tmp_path: Path, can_lock: Callable[[Place], bool]
) -> None:
    threads_before = set(threading.enumerate())
    place = new_place(tmp_path)

    async def start_and_stop() -> tuple[list[str], list[str]]:
        daemon = configured(tmp_path, place)
        before = open_files()
        async with daemon:
            assert presence.find(place, tmp_path / "premblyd.yaml")
            assert isinstance(place, Server) or not can_lock(place)
        return before, open_files()

    before, after = asyncio.run(start_and_stop())
    assert after == before
    wait_until(lambda: set(threading.enumerate()) <= threads_before)
    assert not (tmp_path / "socket").exists()
    assert presence.find(place, tmp_path / "premblyd.yaml") is None
    assert can_lock(place)


def test_a_loop_that_ends_by_itself_is_noticed() -> None:
    async def end() -> None:
        await asyncio.sleep(0)

    async def run() -> None:
        async with Loops() as loops:
            loops.start("short", end())
            await asyncio.Event().wait()

    with pytest.raises(PremblydError, match="A part of the daemon failed"):
        asyncio.run(run())


def test_loops_end_with_the_daemon_and_leave_its_own_error_alone() -> None:
    ended = []

    async def last() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("last")

    async def run(error: Exception | None) -> None:
        async with Loops() as loops:
            loops.start("last", last())
            await asyncio.sleep(0)
            if error:
                raise error

    asyncio.run(run(None))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run(ZeroDivisionError()))
    assert ended == ["last", "last"]
