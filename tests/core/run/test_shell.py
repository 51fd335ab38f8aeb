"""Shell and command hooks, with real processes."""

import asyncio
import hashlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from premblyd.config.hooks import DEFAULT_PATH
from premblyd.queue.jobs import Result
from premblyd.run import process, starting
from premblyd.run.kinds import Invocation
from premblyd.run.process import Children, Mark
from premblyd.run.shell import ShellRunner, Threads
from premblyd.run.starting import Permit
from tests.support.jobs import hook, invocation
from tests.support.processes import runs
from tests.support.rows import for_each
from tests.support.waiting import until, wait_until

pytestmark = pytest.mark.process

KIB = 1024
EVERY_BYTE = bytes(range(256))
# Each says when it has come so far that its time may be over.
IGNORES_SIGTERM = "trap '' TERM; sleep 60 & echo $$ $!; : >$READY; sleep 60"
TIDIES_UP = "trap 'sleep 0.1; echo bye; exit 0' TERM; : >$READY; while :; do sleep 0.02; done"
HOSTILE = [
    "$(touch {0})",
    "`touch {0}`",
    "x; touch {0}",
    "x\ntouch {0}",
    "--help",
    "' \" \\ * ~ %s",
]


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file. Once it is there it is an hour later for who waits for a process: however long a busy
    machine takes until then, no hook's time is over before."""
    file = tmp_path / "ready"
    looks = itertools.count()  # the first is at the beginning, however late that comes

    clock = SimpleNamespace(
        monotonic=lambda: time.monotonic() + 3600 * (next(looks) > 0 and file.exists()),
        sleep=time.sleep,
    )
    monkeypatch.setattr(process, "time", clock)
    monkeypatch.setattr(process, "MAX_WAIT_S", 0.02)
    return file


@pytest.fixture(autouse=True)
def no_process_or_descriptor_is_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    others = psutil.Process().children()  # of fixtures that this worker keeps, as a machine
    yield
    assert len(os.listdir("/proc/self/fd")) == before
    assert hooks_beside(others) == []


def hooks_beside(others: list[psutil.Process]) -> list[psutil.Process]:
    """Return what runs and descends from this process, but not by way of `others`."""
    children = [child for child in psutil.Process().children() if child not in others]
    found = [*children, *(below for child in children for below in descendants(child))]
    return [process for process in found if runs(process)]


def descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def run(given: Invocation | None = None, **keys: Any) -> Result:
    with closing(ShellRunner(Children())) as runner:
        return asyncio.run(runner.run(hook(**keys), given or invocation()))


def end(result: Result) -> tuple[str, int | None, str | None, bool]:
    return str(result.outcome), result.exit_code, result.error, result.final


def gone(pids: list[int]) -> bool:
    """Wait for processes that are not this one's children: init may reap them late, or never."""
    return wait_until(
        lambda: all(
            one.info["status"] == psutil.STATUS_ZOMBIE
            for one in psutil.process_iter(["status"])
            if one.pid in pids
        )
    )


@pytest.mark.parametrize("body", [b"", b'{"a": "\xc3\xa9"}\n', EVERY_BYTE * 4 * KIB])
@pytest.mark.parametrize("keys", [{"shell": "cat >$OUT"}, {"command": ["sh", "-c", "cat >$OUT"]}])
def test_stdin_is_the_exact_body(body: bytes, keys: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(invocation(body), **keys, env={"OUT": str(out)}).outcome == "succeeded"
    assert out.read_bytes() == body


def test_a_large_body_is_read_whole_or_not_at_all() -> None:
    body = os.urandom(5 << 20)
    assert run(invocation(body), shell="head -c 1 >/dev/null").outcome == "succeeded"
    expected = hashlib.sha256(body).hexdigest()
    assert (run(invocation(body), shell="sha256sum").output or "").split()[0] == expected


def test_a_process_that_can_not_be_watched_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def lack(pid: int) -> int:
        started.append(pid)
        raise MemoryError

    monkeypatch.setattr(os, "pidfd_open", lack)
    monkeypatch.setattr(starting, "PAUSE_S", 0)
    ended = run(shell="sleep 60")
    assert (ended.outcome, ended.error) == ("interrupted", "the machine lacks memory")
    assert not any(map(psutil.pid_exists, started))  # each was ended and reaped


def variables(given: Invocation, **keys: Any) -> dict[str, str]:
    """Return the whole environment that a command gets."""
    output = run(given, command=["env", "-0"], **keys).output or ""
    pairs = [pair.partition("=") for pair in output.split("\0")[:-1]]
    return {name: value for name, _, value in pairs}


def test_absent_values_are_empty_absent_variables_away(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATH", "HOME", "LANG", "TZ"):
        monkeypatch.delenv(name, raising=False)
    seen = variables(invocation())
    assert seen.pop("PATH") == DEFAULT_PATH
    assert all(name.startswith("PREMBLY_") for name in seen)
    assert {"REFERENCE", "FACE_MATCH"} <= {
        name.removeprefix("PREMBLY_") for name, value in seen.items() if not value
    }


@for_each(
    ("value", "seen"),
    [
        ("a\0b", ""),
        ("x" * 4 * KIB, "x" * 4 * KIB),
        ("x" * (4 * KIB + 1), ""),
        ("é" * 2 * KIB + "x", ""),
        ("a\nPATH=/evil", "a\nPATH=/evil"),
    ],
)
def test_a_value_with_nul_or_over_4_kib_is_empty(value: str, seen: str) -> None:
    assert variables(invocation(reference=value))["PREMBLY_REFERENCE"] == seen


@pytest.mark.promise
@for_each("text", HOSTILE)
def test_a_hostile_value_is_never_executed_nor_an_argument(text: str, tmp_path: Path) -> None:
    text = text.format(tmp_path / "pwned")
    given = invocation(text.encode(), token=text, status=text, reference=text, user_ref=text)
    script = 'tr "\\0" " " < /proc/$$/cmdline; printf "|%s" "$PREMBLY_REFERENCE"; : $PREMBLY_STATUS'
    assert run(given, shell=script).output == f"/bin/sh -c {script} |{text}"
    command = ["cat", "/proc/self/cmdline"]
    assert run(given, command=command).output == "cat\0/proc/self/cmdline\0"
    # Its own words are taken as they are.
    assert run(command=["printf", "%s|", *HOSTILE]).output == "".join(f"{one}|" for one in HOSTILE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise
@for_each(
    ("script", "expected"),
    [
        ("exit 0", ("succeeded", 0, None, False)),
        ("exit 1", ("failed", 1, "exit status 1", False)),
        ("kill -KILL $$", ("failed", -9, "ended by signal SIGKILL", False)),
        ("kill -40 $$", ("failed", -40, "ended by signal 40", False)),
        ("no-such-command", ("failed", 127, "the shell can't find the command", True)),
        ("/etc/passwd", ("failed", 126, "the shell can't execute the command", True)),
    ],
)
def test_only_exit_0_is_success(script: str, expected: tuple[object, ...]) -> None:
    assert end(run(shell=script)) == expected
    own = (*expected[:2], f"exit status {expected[1]}", False)  # a command's own 127 is like others
    assert end(run(command=["sh", "-c", script])) == (own if expected[-1] else expected)


def test_a_command_that_can_not_be_run_ends_at_once(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("no interpreter line\n")
    script.chmod(0o755)
    missing = "the command was not found or is not executable"
    errors = dict.fromkeys(["no-such-command", "/etc/passwd", "/etc", "/etc/passwd/x"], missing)
    errors[str(script)] = "the command did not start: Exec format error"
    for name, error in errors.items():
        assert end(run(command=[name, "x"])) == ("failed", None, error, True)


def test_at_the_timeout_a_group_that_ignores_sigterm_is_gone_5_s_later(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert process.KILL_AFTER_S == 5
    monkeypatch.setattr(process, "KILL_AFTER_S", 0.05)
    result = run(shell=IGNORES_SIGTERM, timeout="50m", env={"READY": str(ready)})
    assert end(result) == ("timed_out", -9, "still running after 3000 s", False)
    pids = [int(pid) for pid in (result.output or "").split()]
    assert len(pids) == 2
    assert gone(pids)


@for_each("timeout", ["24d", "366d"])
def test_a_timeout_may_be_longer_than_the_kernel_waits_at_once(
    timeout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert end(run(shell="sleep 0.1; exit 3", timeout=timeout))[1:] == (3, "exit status 3", False)
    monkeypatch.setattr(process, "MAX_WAIT_S", 0.02)  # several waits, one after the other
    assert run(shell="sleep 0.1; exit 3", timeout=timeout).exit_code == 3


@pytest.mark.parametrize(
    ("script", "kept", "code"),
    [
        (f"exec 2>/dev/null; {TIDIES_UP}", "bye\n", 0),
        ("exec 2>/dev/null; sh $TIDY; true", "bye\n", -15),  # a program that the shell waits for
        ("exec 2>/dev/null; sh $TIDY > $OUT; true", "", -15),
    ],
)
def test_a_hook_may_tidy_up_after_sigterm(
    script: str, kept: str, code: int, tmp_path: Path, ready: Path
) -> None:
    tidy, out = tmp_path / "tidy", tmp_path / "out"
    tidy.write_text(TIDIES_UP)
    env = {"OUT": str(out), "READY": str(ready), "TIDY": str(tidy)}
    result = run(shell=script, timeout="50m", env=env)
    assert (result.outcome, result.output, result.exit_code) == ("timed_out", kept, code)
    assert kept or out.read_text() == "bye\n"


def test_what_a_hook_leaves_behind_in_its_group_ends_with_it() -> None:
    result = run(shell="sleep 60 & echo $!")
    assert result.outcome == "succeeded"
    assert gone([int(result.output or "")])


def test_output_held_open_after_the_exit_is_not_waited_for(tmp_path: Path) -> None:
    # The hook ends when the other has left its group: what is still in it is killed.
    flee = 'setsid sh -c ": >$FLED; exec sleep 3600" & echo $!'
    script = f"{flee}; while ! test -e $FLED; do sleep 0.01; done"
    result = run(shell=script, timeout="1h", env={"FLED": str(tmp_path / "fled")})
    assert result.outcome == "succeeded"
    os.kill(int(result.output or ""), signal.SIGKILL)


@for_each(
    ("size", "kept", "truncated"),
    [(64 * KIB, 64 * KIB, False), (64 * KIB + 1, 64 * KIB, True), (10_000 * KIB, 64 * KIB, True)],
)
def test_the_first_64_kib_of_output_are_kept(size: int, kept: int, truncated: bool) -> None:
    result = run(shell=f"yes | head -c {size}; echo x >/dev/null")
    assert result.output == ("y\n" * size)[:kept]
    assert (result.outcome, result.output_truncated) == ("succeeded", truncated)


@pytest.mark.promise
def test_both_outputs_are_kept_in_order_and_need_not_be_text() -> None:
    result = run(shell=r"echo a; echo b >&2; printf 'c\377'")
    assert result.output == "a\nb\nc\N{REPLACEMENT CHARACTER}"


class Late(Permit):
    """A permit whose hook has ended before anybody waits for it."""

    @contextmanager
    def ends_by(self, end: Callable[[], object], mark: Mark | None = None) -> Iterator[None]:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        with super().ends_by(end, mark):
            yield


def test_what_was_printed_just_before_the_end_is_kept() -> None:
    result = run(invocation(permit=Late()), command=["head", "-c", str(64 * KIB), "/dev/zero"])
    assert (result.output, result.output_truncated) == ("\0" * 64 * KIB, False)


def test_what_was_cancelled_before_it_began_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[bool] = []

    async def main() -> None:
        with closing(Threads("late")) as threads:
            with monkeypatch.context() as patched:
                patched.setattr(threads, "_add", lambda: None)
                running = asyncio.create_task(threads.run(lambda: ran.append(True)))
                await asyncio.sleep(0)
                running.cancel()
                await asyncio.wait([running])
            threads._add()

    asyncio.run(main())
    assert ran == []


def test_a_flood_is_read_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses_s: list[float] = []
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=pauses_s.append)
    monkeypatch.setattr(process, "time", clock)
    result = run(shell="head -c 32M /dev/zero")
    assert (result.outcome, result.output_truncated) == ("succeeded", True)
    assert len(pauses_s) > 400, "after each of 512 pipefuls, but of the last"
    assert set(pauses_s) == {process.FLOOD_PAUSE_S}


def start(runner: ShellRunner, *scripts: str) -> list["asyncio.Task[Result]"]:
    hooks = [(hook(shell=line), invocation(attempt=number)) for number, line in enumerate(scripts)]
    return [asyncio.create_task(runner.run(*each)) for each in hooks]


def test_a_hooks_process_is_known_as_long_as_it_runs() -> None:
    async def main(runner: ShellRunner) -> None:
        (running,) = start(runner, "exec sleep 60")
        await until(lambda: hooks_beside(others))
        (child,) = hooks_beside(others)
        await until(lambda: child.pid in children)
        child.kill()
        await running
        assert child.pid not in children

    children, others = Children(), psutil.Process().children()
    with closing(ShellRunner(children)) as runner:
        asyncio.run(main(runner))


def test_interrupt_ends_running_hooks_as_interrupted(
    tmp_path: Path, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "KILL_AFTER_S", 3000)
    trapped = tmp_path / "trapped"
    ignoring = f"trap '' TERM; : >{trapped}; sleep 60"

    async def main(runner: ShellRunner) -> list[Result]:
        hooks = start(runner, "exec sleep 60", ignoring, "exec yes", "exit 3")
        await until(lambda: trapped.exists() and hooks[3].done())
        runner.interrupt()
        await until(lambda: hooks[0].done() and hooks[2].done())  # of SIGTERM
        ready.touch()
        return await asyncio.gather(*hooks)

    with closing(ShellRunner(Children())) as runner:
        sleeping, stubborn, endless, ended = asyncio.run(main(runner))
    for result, code in ((sleeping, -15), (stubborn, -9), (endless, -15)):
        assert end(result) == ("interrupted", code, "the daemon was stopped", False)
    assert ended.error == "exit status 3"
