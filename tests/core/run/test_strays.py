"""Who is a stray: what a hook left behind, and nobody else's child."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any

import psutil
import pytest

from premblyd.run.process import Mark
from premblyd.run.strays import kill_marked, read_mark
from tests.support.commands import Ran, run_process
from tests.support.configuration import ONCE, shell
from tests.support.daemon import Premblyd
from tests.support.processes import alive, runs
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process

BODY = b'{"response_code":"00"}'
SWEEPS_S = 0.7  # what carries no mark must be seen twice
OFTEN = "from premblyd.run import strays; strays.SWEEP_EVERY_S = 0.2"

# Started by an entrypoint before it became the daemon: a sidecar in the same session, one in its
# own, and one that now and then leaves a child, which becomes the daemon's.
ENTRYPOINT = f"""
{OFTEN}
import subprocess
subprocess.Popen(["sleep", "{{word}}"])
subprocess.Popen(["sleep", "{{word}}"], start_new_session=True)
subprocess.Popen(["sh", "-c", "sleep 1; setsid sleep {{word}} & sleep 0.2; sleep {{word}} & "])
"""
# Started by the daemon itself.
OWN = f"""
{OFTEN}
import subprocess
from premblyd.daemon import Daemon
start = Daemon.__aenter__
async def start_and_more(self):
    await start(self)
    self.own = subprocess.Popen(["sleep", "{{word}}"])
    return self
Daemon.__aenter__ = start_and_more
"""
# The hook ends when the test has seen what it leaves, which is killed soon afterwards.
UNTIL_SEEN = "until test -e {folder}/seen; do sleep 0.05; done"
MARKED = f"setsid sleep {{word}} & {UNTIL_SEEN}"
UNMARKED = f"env -i setsid sleep {{word}} & {UNTIL_SEEN}"


@contextmanager
def words(*names: str) -> Iterator[dict[str, str]]:
    """Give an argument of `sleep` that nobody else uses for each name; end what still has it."""
    given = {name: f"98765.{time.time_ns()}{number}" for number, name in enumerate(names)}
    try:
        yield given
    finally:
        for word in given.values():
            for process in alive(word):
                with suppress(psutil.NoSuchProcess):  # it has ended
                    process.kill()


def run_hook(daemon: Premblyd, word: str) -> list[psutil.Process]:
    """Run the hook and return what it leaves behind."""
    assert daemon.send(BODY).status == 200
    left = wait_until(lambda: alive(word))
    (daemon.folder / "seen").touch()
    daemon.wait_for_rows([("succeeded",)], "SELECT state FROM delivery")
    return left


def leaving(script: str, word: str, folder: Path | None = None) -> dict[str, Any]:
    # Longer than any test waits: what is left is to end by what it is about.
    script = script.format(word=word, folder=folder)
    return shell("leave", script, retry=ONCE, timeout="10m")


def zombies(pid: int) -> list[int]:
    """Return the children of a process that have ended, and for which it has not waited yet."""
    found = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):  # it has waited now
            if child.status() == psutil.STATUS_ZOMBIE:
                found.append(child.pid)
    return found


@contextmanager
def leaving_daemon(
    folder: Path, script: str, *names: str
) -> Iterator[tuple[Premblyd, dict[str, str]]]:
    """Give a daemon whose hook leaves a process, with its word, stray, and others."""
    with (
        words("stray", *names) as word,
        Premblyd(folder, actions=[leaving(script, word["stray"], folder)]) as daemon,
    ):
        yield daemon, word


@pytest.mark.parametrize(
    ("begin", "script", "count"), [(ENTRYPOINT, MARKED, 4), (OWN, UNMARKED, 1)]
)
def test_what_an_entrypoint_or_the_daemon_itself_started_is_no_stray(
    tmp_path: Path, begin: str, script: str, count: int
) -> None:
    with leaving_daemon(tmp_path, script, "guest") as (daemon, word):
        daemon.start(begin.format(word=word["guest"]))
        stray = run_hook(daemon, word["stray"])
        wait_until(lambda: not any(map(runs, stray)))
        guests = wait_until(lambda: found if len(found := alive(word["guest"])) == count else [])
        time.sleep(SWEEPS_S)
        assert all(map(runs, guests))
        wait_until(lambda: not zombies(daemon.process.pid))  # nobody else would wait for them
        assert daemon.stop() == 0
        assert all(map(runs, guests))


@pytest.mark.parametrize("script", [MARKED, UNMARKED])
def test_what_a_hook_leaves_behind_is_gone_after_a_stop(tmp_path: Path, script: str) -> None:
    with leaving_daemon(tmp_path, script) as (daemon, word):
        daemon.start()
        stray = run_hook(daemon, word["stray"])
        assert daemon.stop() == 0
        assert not any(map(runs, stray))


KEEPING = """
import os, subprocess, time
from premblyd.run.process import Children
from premblyd.run.strays import Strays
children = Children()
strays = Strays(children)
kept = subprocess.Popen(["sleep", "60"], start_new_session=True)
other = subprocess.Popen(["sleep", "60"], start_new_session=True)
short = subprocess.Popen(["sh", "-c", "exit 3"], start_new_session=True)
with children.known(kept.pid), children.known(short.pid):
    time.sleep(0.5)
    print(strays.sweep(), strays.sweep(), kept.poll(), short.wait(), other.wait())
    strays.sweep_all()
    print(kept.poll())
kept.kill()
raise SystemExit
"""


def test_a_child_that_is_known_is_neither_killed_nor_reaped() -> None:
    # In another process: this one would adopt orphans for the rest of its life.
    assert run_process(before=KEEPING) == Ran(0, "0 1 None 3 -9\nNone\n", "")


MARKED_ORPHANS = """
import subprocess
from premblyd.run.process import Children, Mark
from premblyd.run.strays import Strays, read_mark
children = Children()
strays = Strays(children)
def leave(mark):  # as a process that stays does, and one of a delivery: with a session of its own
    return subprocess.Popen(["sleep", "60"], env=mark, start_new_session=True)
left = [leave({"PREMBLY_WORKER": "w"}), leave({"PREMBLY_WORKER": "w", "PREMBLY_DELIVERY": "7"})]
marks = [read_mark(process.pid) for process in left]
print(marks == [Mark("w"), Mark("w", delivery="7")])
with children.known(marks[0]), children.known(marks[0]):
    with children.known(marks[1]):
        print(strays.sweep())
    print(strays.sweep(), left[1].wait(10), left[0].poll())
print(strays.sweep(), left[0].wait(10))
raise SystemExit
"""


def test_what_a_process_leaves_is_spared_as_long_as_one_of_its_mark_runs() -> None:
    # In another process, as above.
    assert run_process(before=MARKED_ORPHANS) == Ran(0, "True\n0\n1 -9 None\n1 -9\n", "")


# It is in the middle of execve(2) one time in ten, where a process has no environment.
EXECUTES_ITSELF = ["sh", "-c", 'exec sh -c "$0" "$0"', 'exec sh -c "$0" "$0"']


def test_who_is_in_the_middle_of_execve_is_known_by_its_mark_too() -> None:
    # A real process: only the kernel knows what it shows then.
    own = f"of {os.getpid()}"
    with subprocess.Popen(EXECUTES_ITSELF, env={"PREMBLY_WORKER": own}) as left:
        try:
            assert {read_mark(left.pid) for _ in range(1000)} == {Mark(own)}
        finally:
            left.kill()


def test_the_processes_of_another_delivery_of_the_same_daemon_are_left_alone() -> None:
    own = f"of {os.getpid()}"
    lost, kept = (
        subprocess.Popen(["sleep", "60"], env={"PREMBLY_WORKER": own, "PREMBLY_DELIVERY": number})
        for number in "12"
    )
    assert kill_marked({Mark(own, delivery="1")}) == 1
    assert (lost.wait(), kept.poll()) == (-SIGKILL, None)
    kept.kill()
    kept.wait()


@pytest.mark.promise
def test_what_a_dead_daemon_left_is_gone_at_the_next_start(tmp_path: Path) -> None:
    """Also what belongs to no delivery. Its sweep died with it, so it is killed: a real process."""
    with (
        words("hook", "staying", "other") as word,
        Premblyd(tmp_path, actions=[leaving("exec sleep {word}", word["hook"])]) as daemon,
    ):
        daemon.start()
        assert daemon.send(BODY).status == 200
        wait_until(lambda: alive(word["hook"]))
        ((worker,),) = daemon.rows("SELECT worker FROM attempt")
        staying, other = (
            subprocess.Popen(["sleep", word[name]], env={"PREMBLY_WORKER": of})
            for name, of in (("staying", worker), ("other", f"{worker}x"))
        )
        daemon.kill()
        daemon.start()
        assert daemon.log("daemon.started")[-1]["killed_leftovers"] == 2
        assert staying.wait() == -SIGKILL
        assert other.poll() is None
        other.kill()
        other.wait()
