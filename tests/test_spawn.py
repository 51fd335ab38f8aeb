"""How a hook's process begins: what it has of the daemon, which program, and no trace of locks."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from premblyd.hooks.children import Children
from premblyd.hooks.shell.runner import ShellRunner
from premblyd.hooks.shell.spawn import spawn
from premblyd.store.jobs import Result
from tests.support.jobs import hook, job


def run(**keys: Any) -> Result:
    with closing(ShellRunner(Children())) as runner:
        return asyncio.run(runner.run(hook(**keys), job()))


@contextmanager
def inherited_descriptor() -> Iterator[int]:
    """Hold a descriptor that children inherit, as systemd passes them."""
    descriptor = os.dup(0)
    os.set_inheritable(descriptor, True)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_a_hook_starts_in_the_root_with_its_three_streams_alone() -> None:
    with inherited_descriptor():
        result = run(command=["sh", "-c", "pwd; ls /proc/$$/fd"])
    assert result.output == "/\n0\n1\n2\n"


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


def test_a_nul_is_refused_and_not_the_end_of_a_text() -> None:
    with pytest.raises(ValueError, match="NUL"):
        spawn(["/bin/true", "a\0b"], {}, stdin=0, output=1, folder="/")
