"""How a hook's process begins: what it has of the daemon, which program, and no trace of locks."""

import asyncio
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.queue.jobs import Result
from premblyd.run.process import Children, spawn
from premblyd.run.shell import ShellRunner
from tests.support.configuration import ONCE, shell
from tests.support.daemon import Premblyd
from tests.support.jobs import hook, invocation
from tests.support.users import WITHOUT_PTRACE
from tests.support.webhooks import KEY

pytestmark = pytest.mark.process


def run(**keys: Any) -> Result:
    with closing(ShellRunner(Children())) as runner:
        return asyncio.run(runner.run(hook(**keys), invocation()))


@pytest.mark.promise
def test_a_hook_starts_in_the_root_with_its_three_streams_alone() -> None:
    inherited = os.dup(0)
    os.set_inheritable(inherited, True)  # as systemd passes them
    try:
        assert run(command=["sh", "-c", "pwd; ls /proc/$$/fd"]).output == "/\n0\n1\n2\n"
    finally:
        os.close(inherited)


def test_a_hook_starts_with_no_signal_blocked_or_ignored() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGABRT, signal.SIGTERM])
    quit_before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)  # as a shell's & does
    try:
        output = run(command=["grep", "Sig[BI]", "/proc/self/status"]).output or ""
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGQUIT, quit_before)
    signals = {name: int(digits, 16) for name, digits in map(str.split, output.splitlines())}
    glibc_s_own = 1 << 31 | 1 << 32  # before 2.38 its posix_spawn leaves 32 and 33 ignored
    assert signals.keys() == {"SigBlk:", "SigIgn:"}
    assert (signals["SigBlk:"], signals["SigIgn:"] & ~glibc_s_own) == (0, 0)


def test_a_hook_leads_a_session_of_its_own() -> None:
    output = run(shell="echo $$; cut -d' ' -f5,6 /proc/$$/stat").output or ""
    assert len(set(output.split())) == 1


def test_a_program_is_looked_for_in_the_hooks_own_path(tmp_path: Path) -> None:
    for folder, mode in (("unusable", 0o644), ("usable", 0o755)):
        (tmp_path / folder).mkdir()
        program = tmp_path / folder / "the-program"
        program.write_text("#!/bin/sh\necho found\n")
        program.chmod(mode)
    places = f"{tmp_path}/none:{tmp_path}/unusable:{tmp_path}/usable"
    assert run(command=["the-program"], env={"PATH": places}).output == "found\n"
    result = run(command=["the-program"], env={"PATH": f"{tmp_path}/none:{tmp_path}/unusable"})
    assert result.error == "the command was not found or is not executable"


@pytest.mark.parametrize(("word", "value"), [("a\0b", ""), ("a", "\0b=c")])
def test_no_word_and_no_variable_becomes_two(word: str, value: str) -> None:
    with pytest.raises(ValueError, match="has a NUL"):
        spawn(["/bin/true", word], {"PATH": value}, streams=(), folder="/")


def test_a_hook_cannot_read_what_the_daemon_holds(tmp_path: Path) -> None:
    """Another process: only that can be hidden."""
    script = "cat /proc/$PPID/environ; cat /proc/$PPID/mem"
    endpoint = {"keys": {"live": {"env": "THE_KEY"}}}
    with Premblyd(tmp_path, endpoint=endpoint, actions=[shell("looks", script, retry=ONCE)]) as it:
        it.start(prefix=WITHOUT_PTRACE, THE_KEY=KEY)
        assert it.send(b"{}").status == 200
        it.wait_for_rows([(1,)], "SELECT count(*) FROM attempt WHERE finished_at_ms > 0")
        ((output,),) = it.rows("SELECT output FROM attempt")
    assert [line.rpartition(": ")[2] for line in output.splitlines()] == ["Permission denied"] * 2
