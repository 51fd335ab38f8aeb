"""The process of a hook: how it is recognised (`Mark`, `Children`); its start, end, output and
timeout, and the daemon's stop (`Process`)."""

import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

from premblyd.queue.jobs import Result
from premblyd.store.states import AttemptOutcome

_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80  # spawn.h
# Python ignores the first two, and `serve` the next three. A shell that starts the daemon in the
# background, or by nohup, has it ignore the others. What is ignored is inherited.
_MAY_BE_IGNORED = (
    *(signal.SIGPIPE, signal.SIGXFSZ),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM),
    *(signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM),
)
# Before the daemon allows itself more files. Programs that take the limit for a number of files to
# close, or to make room for, would take seconds and gigabytes for a million.
_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)
_ROOM = ctypes.c_long * 128  # more than any libc's structures need: 336 and 80 bytes
_libc = ctypes.CDLL(None)
# For calls that are over at once. They let no other thread run: it would take the interpreter, and
# a start would wait for it again at each of its small steps.
_quick = ctypes.PyDLL(None)


def spawn(
    arguments: list[str],
    environ: Mapping[str, str],
    *,
    streams: Sequence[int],
    folder: str,
    require: Callable[[], None] = lambda: None,
) -> int:
    """Start a process in a session of its own, and return its number. It has `streams` as its
    descriptors 0, 1, 2 and so on, none of which is higher than it is here, and no others. Its
    program is looked for in the PATH of `environ`. Raise OSError when it can't start, and what
    `require` raises, when all is prepared.

    By posix_spawn(3), as glibc and musl have it. Not by subprocess: its child resets all signals
    while it shares the daemon's memory. glibc 2.41 takes a lock there for SIGABRT, so when the
    daemon is killed just then, the child may wait for that lock for ever, busily, holding what it
    inherited. posix_spawn's child takes no lock.

    Not by os.posix_spawn: it can neither change the folder nor, before 3.13, close what was
    inherited, and it lets no other thread run until the child has become its program. At 32 hooks
    at a time that is 1,000 to 2,200 starts a second; this is 3,000 to 3,600, as many as subprocess,
    at half its cost.
    """
    argument_list = _strings(arguments)
    variables = _strings(list(map("=".join, environ.items())))
    actions = _ROOM()
    pid = ctypes.c_int()
    _check(_quick.posix_spawn_file_actions_init(actions))
    try:
        for stream, descriptor in enumerate(streams):
            _check(_quick.posix_spawn_file_actions_adddup2(actions, descriptor, stream))
        if hasattr(_quick, "posix_spawn_file_actions_addclosefrom_np"):  # not musl
            _check(_quick.posix_spawn_file_actions_addclosefrom_np(actions, len(streams)))
        _check(_quick.posix_spawn_file_actions_addchdir_np(actions, os.fsencode(folder)))
        path: str | None = arguments[0]
        if not os.path.dirname(arguments[0]):
            path = shutil.which(arguments[0], path=environ.get("PATH"))
        if path is None:
            raise FileNotFoundError(arguments[0])
        require()  # nothing stands between this and the start
        _check(
            _libc.posix_spawn(
                *(ctypes.byref(pid), os.fsencode(path)),
                *(actions, _attributes, argument_list, variables),
            )
        )
    finally:
        _quick.posix_spawn_file_actions_destroy(actions)
    _limit_files(pid.value)
    return pid.value


def _limit_files(pid: int) -> None:
    """Give a process that has just begun the limit of files that this one was started with:
    posix_spawn itself has no way to."""
    soft, _ = _FILES
    now, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != now:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # ended, or setuid
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def _strings(values: list[str]) -> "ctypes.Array[ctypes.c_char_p]":
    """Return C's array of strings, which NULL ends."""
    kept = os.fsencode("\0".join(values)).split(b"\0")  # all at once: half as dear as one by one
    if len(kept) != len(values):
        raise ValueError("an argument or a variable has a NUL")
    return (ctypes.c_char_p * (len(kept) + 1))(*kept, None)


def _check(number: int) -> None:
    if number:
        raise OSError(number, os.strerror(number))


def _make_attributes() -> "ctypes.Array[ctypes.c_long]":
    """Return what every process starts with: its own session, no signal blocked or ignored."""
    attributes, blocked, by_default = _ROOM(), _ROOM(), _ROOM()
    _check(_libc.posix_spawnattr_init(attributes))
    _libc.sigemptyset(blocked)
    _libc.sigemptyset(by_default)
    for number in _MAY_BE_IGNORED:
        _libc.sigaddset(by_default, int(number))
    _check(_libc.posix_spawnattr_setsigmask(attributes, blocked))
    _check(_libc.posix_spawnattr_setsigdefault(attributes, by_default))
    flags = ctypes.c_short(_SETSIGDEF | _SETSIGMASK | _SETSID)
    _check(_libc.posix_spawnattr_setflags(attributes, flags))
    return attributes


_attributes = _make_attributes()


KILL_AFTER_S = 5.0  # between SIGTERM and SIGKILL
GROUP_POLL_S = 0.1
MAX_WAIT_S = 3600.0  # poll(2) takes at most 24 days, as milliseconds in 32 bits
MAX_OUTPUT_BYTES = 64 << 10
FLOOD_PAUSE_S = 0.001  # after each read of what is dropped: a flood must not take a whole core
_NOT_FOUND = {126: "the shell can't execute the command", 127: "the shell can't find the command"}


class Mark(NamedTuple):
    """What tells a hook's process, and what it starts, from all others: what its environment has
    for the names in `MARK`."""

    worker: str  # another daemon may run a hook for the same event, delivery and attempt
    event_key: str = ""
    delivery: str = ""
    attempt: str = ""
    process: str = ""  # a worker process is of no delivery


MARK = tuple(f"PREMBLY_{name.upper()}" for name in Mark._fields)


def mark_of(environment: Mapping[str, str]) -> Mark | None:
    """Return the mark of a process with this environment; None: it is no hook's."""
    mark = Mark(*(environment.get(name, "") for name in MARK))
    return mark if mark.worker else None


class Children:
    """The numbers of the processes that the daemon itself started and waits for, so that `Strays`
    neither kills nor reaps them, and their marks, so that it spares what they have started.

    Any thread may start a process. Both are counted, not kept in a set: once a process was
    waited for, the kernel may give its number to another before the first is forgotten here.
    """

    def __init__(self) -> None:
        self._counts: Counter[int | Mark | None] = Counter()
        self._changing = threading.Lock()

    @contextlib.contextmanager
    def known(self, child: int | Mark | None) -> Iterator[None]:
        """Know a process for as long as this is entered: by its number from its start until its
        end, by its mark from before its start."""
        with self._changing:
            self._counts[child] += 1
        try:
            yield
        finally:
            with self._changing:
                self._counts[child] -= 1
                if not self._counts[child]:
                    del self._counts[child]

    def __contains__(self, child: int | Mark) -> bool:
        return child in self._counts


class Process:
    """A process in a session of its own, in `/`, with `body` as its standard input: made, it has
    started; entered, it is waited for. Raise OSError or MemoryError when it can't be started, and
    what `require` raises at the last moment. `stop`: what is readable once the daemon stops."""

    def __init__(
        self,
        arguments: list[str],
        environ: Mapping[str, str],
        body: bytes,
        *,
        require: Callable[[], None],
        stop: int,
    ) -> None:
        self._stop = stop
        self._output = Output()
        self._reaping = threading.Lock()
        self._is_reaped = False
        self._poll = select.poll()
        self._held = contextlib.ExitStack()
        with contextlib.ExitStack() as failed:
            failed.enter_context(self._held)
            with contextlib.ExitStack() as theirs:
                stdin = _in_memory(body)
                theirs.callback(os.close, stdin)
                self._stdout, write_end = os.pipe()
                self._held.callback(os.close, self._stdout)
                theirs.callback(os.close, write_end)
                os.set_blocking(self._stdout, False)
                streams = (stdin, write_end, write_end)
                self.pid = spawn(arguments, environ, streams=streams, folder="/", require=require)
            failed.callback(self._give_up)
            self._pidfd = os.pidfd_open(self.pid)  # two descriptors were closed: there is room
            self._held.callback(os.close, self._pidfd)
            for descriptor in (self._pidfd, self._stdout, self._stop):
                self._poll.register(descriptor, select.POLLIN)
            failed.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._give_up()
        self._held.close()

    def _give_up(self) -> None:
        """End the process: by an error of ours, nothing would watch it any more."""
        self._kill(signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def wait(self, timeout_s: float, *, is_shell: bool) -> Result:
        """Wait until the process has ended, or end it when its time is up or the daemon stops.
        Return how it ended, and what it printed."""
        ended_by = None
        exited = self._exited_within(timeout_s)
        if not exited:
            is_stop = self._stop in dict(self._poll.poll(0))
            ended_by = AttemptOutcome.INTERRUPTED if is_stop else AttemptOutcome.TIMED_OUT
            self._poll.unregister(self._stop)
            self._kill(signal.SIGTERM)
            self._group_ends_within(KILL_AFTER_S)
        # Whatever the hook left in its group ends with it, also after a good exit. The leader
        # is not reaped yet, so the group's number can't belong to anyone else.
        self._kill(signal.SIGKILL)
        exited = exited or self._exited_within(KILL_AFTER_S)
        self._drain()
        code = self._reap() if exited else None
        return self._result(ended_by, code, timeout_s, is_shell)

    def kill(self) -> None:
        """End the process and its group at once. Any thread may ask for it."""
        with self._reaping:
            if not self._is_reaped:  # else the number may be another group's
                self._kill(signal.SIGKILL)

    def _reap(self) -> int:
        with self._reaping:
            self._is_reaped = True
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _exited_within(self, seconds: float) -> bool:
        """Keep output while the process runs. Return whether it has exited: else its time is up, or
        the daemon stops."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            ready = dict(self._poll.poll(min(max(0, left), MAX_WAIT_S) * 1000))
            if self._pidfd in ready:  # what it has printed is still to be read, see `_drain`
                return True
            if self._stdout in ready and not self._output.read(self._stdout):
                self._poll.unregister(self._stdout)
            elif self._output.truncated:
                time.sleep(FLOOD_PAUSE_S)
            if self._stop in ready or left <= 0:
                return False

    def _group_ends_within(self, seconds: float) -> None:
        """Wait for the process and for what it started: on SIGTERM a shell dies at once, while
        the program that it waited for may still tidy up."""
        deadline = time.monotonic() + seconds
        self._exited_within(seconds)
        while time.monotonic() < deadline and _group_lives(self.pid):
            self._drain()
            time.sleep(GROUP_POLL_S)

    def _kill(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # all gone, or became another user
            return

    def _drain(self) -> None:
        """Read what the pipe still holds, also when a process that is left holds it open."""
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
        elif code != 0:
            outcome, error = AttemptOutcome.FAILED, how_it_ended(code)
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


class Output:
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
        self.keep(chunk)
        return bool(chunk)

    def keep(self, chunk: bytes) -> None:
        """Keep what was read, as far as there is room."""
        room = MAX_OUTPUT_BYTES - len(self._kept)
        self._kept += chunk[:room]
        self.truncated = self.truncated or len(chunk) > room

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")


def _in_memory(body: bytes) -> int:
    """Return a file descriptor to read `body` from: a hook that never reads blocks nobody."""
    descriptor = os.memfd_create("prembly-body")
    view, written = memoryview(body), 0
    while written < len(view):  # at its place, so that reading begins at the start
        written += os.pwrite(descriptor, view[written:], written)
    return descriptor


def _group_lives(leader: int) -> bool:
    """Return whether other processes of a group are left: its leader is not reaped yet."""
    pids = map(int, filter(str.isdecimal, os.listdir("/proc")))
    return any(_group(pid) == leader for pid in pids if pid != leader)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def how_it_ended(code: int | None) -> str:
    """Return in words what an exit code tells. None: the process does not end."""
    if code is None:
        return "the process can't be killed"
    return f"ended by signal {_signal_name(-code)}" if code < 0 else f"exit status {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
