"""Shell and command hooks: a process of its own group, a bounded output, an end in time."""

import asyncio
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from premblyd.config import Action
from premblyd.hooks.strays import Mark, Strays
from premblyd.logs import get_logger
from premblyd.store.jobs import Job, Result
from premblyd.store.models import AttemptOutcome

SWEEP_S = 1.0
KILL_AFTER_S = 5.0  # between SIGTERM and SIGKILL
GROUP_POLL_S = 0.1
MAX_OUTPUT_BYTES = 64 << 10
FLOOD_PAUSE_S = 0.001  # after each read of what is dropped: a flood must not take a whole core
MAX_VALUE_BYTES = 4 << 10
MAX_THREADS = 1024  # config.concurrency's bound
INHERITED = ("PATH", "HOME", "LANG", "TZ")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
log = get_logger()
_NOT_FOUND = {126: "the shell can't execute the command", 127: "the shell can't find the command"}


def command_line(action: Action) -> list[str]:
    """Return the argument list of a shell or command action: nothing of the event is in it."""
    return ["/bin/sh", "-c", action.shell] if action.shell else list(action.command or ())


def environment(action: Action, job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the hook's whole environment: a few of the daemon's variables, the event's identity
    and the action's own. Names are never taken from the event (httpoxy)."""
    verdict = job.event.verdict
    identity = {
        "PREMBLY_EVENT": job.event.id,
        "PREMBLY_EVENT_KEY": job.event.key,
        "PREMBLY_DELIVERY": job.delivery_id,
        "PREMBLY_ATTEMPT": job.attempt,
        "PREMBLY_ENDPOINT": job.event.endpoint,
        "PREMBLY_KIND": verdict.kind,
        "PREMBLY_RESPONSE_CODE": verdict.response_code,
        "PREMBLY_STATUS": verdict.status,
        "PREMBLY_OUTCOME": verdict.outcome,
        "PREMBLY_REFERENCE": verdict.reference,
        "PREMBLY_USER_REF": verdict.user_ref,
        "PREMBLY_FACE_MATCH": verdict.face_match,
        "PREMBLY_FACE_CONFIDENCE": verdict.face_confidence,
    }
    return {
        "PATH": DEFAULT_PATH,
        **{name: environ[name] for name in INHERITED if name in environ},
        **{name: _value(given) for name, given in identity.items()},
        **{name: secret.reveal() for name, secret in action.env.items()},
    }


def _value(given: object) -> str:
    """Return a value as a variable holds it; empty when it has a NUL or is over 4 KiB."""
    if given is None:
        return ""
    text = ("true" if given else "false") if isinstance(given, bool) else str(given)
    return "" if "\0" in text or len(text.encode()) > MAX_VALUE_BYTES else text


class ShellRunner:
    """Runs shell and command hooks, each in a thread that waits for its process.

    subprocess in threads starts four times as many processes a second as asyncio's.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="premblyd-hook")
        self._running: set[Mark] = set()
        self._ran = False
        # Readable once the daemon stops: every waiting thread polls it.
        self._stop_reader, self._stop_writer = os.pipe()

    async def run(self, action: Action, job: Job) -> Result:
        """Run the hook once. Never raise for a hook that fails."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, action, job)

    def interrupt(self) -> None:
        """End every running hook: SIGTERM now, SIGKILL 5 s later. They count as interrupted."""
        os.write(self._stop_writer, b"x")

    async def sweep(self, strays: Strays) -> None:
        """Kill what ended hooks left behind, about once a second, for as long as it runs."""
        while True:
            await asyncio.sleep(SWEEP_S)
            if self._ran:
                self._ran = bool(self._running)
                if killed := strays.sweep(set(self._running)):
                    self._ran = True  # their own children are ours next
                    log.warning("hook.strays_killed", count=killed)

    def close(self) -> None:
        self._pool.shutdown()
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def _run(self, action: Action, job: Job) -> Result:
        mark = Mark(job.event.key, job.delivery_id, job.attempt)
        self._running.add(mark)
        self._ran = True
        try:
            return self._start(action, job)
        finally:
            self._running.discard(mark)

    def _start(self, action: Action, job: Job) -> Result:
        stdin = _in_memory(job.event.body)
        try:
            process = subprocess.Popen(
                command_line(action),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment(action, job, os.environ),
                cwd="/",
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            return _failed("the command was not found or is not executable", final=True)
        except OSError as error:
            # ENOEXEC and E2BIG can't heal; EAGAIN and ENOMEM do.
            final = error.strerror in {"Exec format error", "Argument list too long"}
            return _failed(f"the command did not start: {error.strerror}", final=final)
        finally:
            os.close(stdin)
        with _Watch(process, self._stop_reader) as watch:
            return watch.wait(action.timeout_ms / 1000, is_shell=action.shell is not None)


class _Watch:
    """Waits for one process: its end, its output, its time, and the daemon's stop."""

    def __init__(self, process: "subprocess.Popen[bytes]", stop: int) -> None:
        if process.stdout is None:
            raise TypeError("the process has no output to watch")
        self._process = process
        self._pipe = process.stdout
        self._stop = stop
        self._output = _Output()
        self._pidfd = os.pidfd_open(process.pid)
        self._stdout = self._pipe.fileno()
        os.set_blocking(self._stdout, False)
        self._poll = select.poll()
        for descriptor in (self._pidfd, self._stdout, self._stop):
            self._poll.register(descriptor, select.POLLIN)

    def __enter__(self) -> "_Watch":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._pidfd)
        self._pipe.close()

    def wait(self, timeout_s: float, *, is_shell: bool) -> Result:
        ended_by = None
        if not self._exited_within(timeout_s):
            ended_by = AttemptOutcome.INTERRUPTED if self._stopping() else AttemptOutcome.TIMED_OUT
            self._poll.unregister(self._stop)
            self._kill(signal.SIGTERM)
            self._group_ends_within(KILL_AFTER_S)
        # Whatever the hook left in its group ends with it, also after a good exit. The leader
        # is not reaped yet, so the group's number can't belong to anyone else.
        self._kill(signal.SIGKILL)
        exited = self._exited_within(KILL_AFTER_S)
        self._drain()
        code = self._process.wait() if exited else None
        return self._result(ended_by, code, timeout_s, is_shell)

    def _exited_within(self, seconds: float) -> bool:
        """Keep output until the process exits. False: time is up, or the daemon stops."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            ready = dict(self._poll.poll(max(0, left) * 1000))
            if self._stdout in ready and not self._output.read(self._stdout):
                self._poll.unregister(self._stdout)
            elif self._output.truncated:
                time.sleep(FLOOD_PAUSE_S)
            if self._pidfd in ready:
                return True
            if self._stop in ready or left <= 0:
                return False

    def _group_ends_within(self, seconds: float) -> None:
        """Wait for the process and for what it started: on SIGTERM a shell dies at once, while
        the program that it waited for may still tidy up."""
        deadline = time.monotonic() + seconds
        self._exited_within(seconds)
        while time.monotonic() < deadline and _group_lives(self._process.pid):
            self._drain()
            time.sleep(GROUP_POLL_S)

    def _stopping(self) -> bool:
        return bool(select.select([self._stop], [], [], 0)[0])

    def _kill(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # all gone, or became another user
            return

    def _drain(self) -> None:
        """Read what the pipe still holds; whoever holds it open is not waited for."""
        for _ in range(32):  # more than a pipe's 64 KiB
            if not self._output.read(self._stdout):
                return

    def _result(
        self, ended_by: AttemptOutcome | None, code: int | None, timeout_s: float, is_shell: bool
    ) -> Result:
        outcome, error, final = AttemptOutcome.SUCCEEDED, None, False
        if ended_by is AttemptOutcome.TIMED_OUT:
            outcome, error = ended_by, f"still running after {timeout_s:g} s"
        elif ended_by is AttemptOutcome.INTERRUPTED:
            outcome, error = ended_by, "the daemon was stopped"
        elif code is None:
            outcome, error = AttemptOutcome.FAILED, "the process can't be killed"
        elif code < 0:
            outcome, error = AttemptOutcome.FAILED, f"ended by signal {_signal_name(-code)}"
        elif code > 0:
            outcome, error = AttemptOutcome.FAILED, f"exit status {code}"
            if is_shell and code in _NOT_FOUND:
                error, final = _NOT_FOUND[code], True
        return Result(
            outcome=outcome,
            exit_code=code,
            error=error,
            output=self._output.text(),
            output_truncated=self._output.truncated,
            final=final,
        )


class _Output:
    """The first 64 KiB of what a hook prints; the rest is read and forgotten."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self.truncated = False

    def read(self, descriptor: int) -> bool:
        """Read once. False: nothing more will come, or nothing is there."""
        try:
            chunk = os.read(descriptor, 65536)
        except BlockingIOError:
            return False
        room = MAX_OUTPUT_BYTES - len(self._kept)
        self._kept += chunk[:room]
        self.truncated = self.truncated or len(chunk) > room
        return bool(chunk)

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")


def _in_memory(body: bytes) -> int:
    """Return a file descriptor to read `body` from: a hook that never reads blocks nobody."""
    descriptor = os.memfd_create("prembly-body")
    view = memoryview(body)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _group_lives(group: int) -> bool:
    """Return whether a process of `group` runs; the leader, not reaped yet, does not count."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_bytes().rpartition(b")")[2].split()[:3]
        except (OSError, ValueError):  # gone meanwhile
            continue
        if int(its_group) == group and state not in b"ZX":
            return True
    return False


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _failed(error: str, *, final: bool) -> Result:
    return Result(outcome=AttemptOutcome.FAILED, error=error, final=final)
