"""A worker process as the kernel has it: its start, pipes, signals and end."""

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import sys
import termios
import threading

from premblyd.features.worker.settings import WorkerHook
from premblyd.run.process import Children, mark_of, spawn
from premblyd.run.shell import environment

CHUNK_BYTES = 64 << 10  # as much as a pipe holds


class Input:
    """What a worker process reads: written at once as far as the pipe has room, and the rest when
    it has. All of it is for the loop's thread."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.written = 0
        self.is_open = True
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._rest = memoryview(b"")

    @property
    def is_waiting(self) -> bool:
        """Whether something is not written yet, and nothing else can be."""
        return bool(self._rest)

    @property
    def read_bytes(self) -> int:
        """How much of what was written has been read."""
        return self.written - unread_bytes(self._descriptor) if self.is_open else self.written

    def write(self, text: bytes) -> bool:
        """Write it. Return False when nothing of it can be written."""
        written = self._write(text)
        if 0 < written < len(text):
            self._rest = memoryview(text)[written:]
            self._loop.add_writer(self._descriptor, self._go_on)
        return written > 0

    def close(self) -> None:
        """Let the process read no more than what is written already."""
        if self.is_open:
            self._forget()
            self.is_open = False
            os.close(self._descriptor)

    def _write(self, text: bytes | memoryview) -> int:
        try:
            written = os.write(self._descriptor, text)
        except (BlockingIOError, BrokenPipeError):
            return 0
        self.written += written
        return written

    def _go_on(self) -> None:
        """Write more of the rest; none of it, if nobody reads any more."""
        written = self._write(self._rest)
        if 0 < written < len(self._rest):
            self._rest = self._rest[written:]
        else:
            self._forget()

    def _forget(self) -> None:
        if self._rest:
            self._rest = memoryview(b"")
            self._loop.remove_writer(self._descriptor)


class WorkerProcess:
    """A process in a session of its own, in `/`: made, it has started. It reads `input`, and writes
    what is read from `answers`; `printed` has what it prints, and `pidfd` becomes readable when it
    has ended. Raise OSError or MemoryError when it can't be started.
    """

    def __init__(self, hook: WorkerHook, daemon: str, children: Children) -> None:
        """`daemon`: which one it is of, as PREMBLY_WORKER has it."""
        variables = environment(
            hook,
            {
                "PREMBLYD_WORKER_IN": 3,
                "PREMBLYD_WORKER_OUT": 4,
                "PREMBLY_WORKER": daemon,
                "PREMBLY_PROCESS": secrets.token_hex(16),
            },
            os.environ,
        )
        self.mark = mark_of(variables)
        self._reaping = threading.Lock()
        self._is_reaped = False
        self.is_revoked = False
        self._held = contextlib.ExitStack()
        with contextlib.ExitStack() as failed, contextlib.ExitStack() as theirs:
            failed.enter_context(self._held)
            # In this order none is lower than it is there, see `spawn`.
            null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            theirs.callback(os.close, null)
            self.printed, printing = self._pipe(theirs)
            asked, asking = os.pipe()
            theirs.callback(os.close, asked)
            self.input = Input(asking)
            self._held.callback(self.input.close)
            self.answers, answering = self._pipe(theirs)
            self._held.enter_context(children.known(self.mark))
            streams = (null, printing, printing, asked, answering)
            self.pid = spawn(list(hook.worker), variables, streams=streams, folder="/")
            self._held.enter_context(children.known(self.pid))
            failed.callback(self._undo)
            self.pidfd = os.pidfd_open(self.pid)
            self._held.callback(os.close, self.pidfd)
            failed.pop_all()

    def _pipe(self, theirs: contextlib.ExitStack) -> tuple[int, int]:
        """Return the ends of a pipe from the process: ours to read, and its own to write."""
        reader, writer = os.pipe()
        self._held.callback(os.close, reader)
        theirs.callback(os.close, writer)
        os.set_blocking(reader, False)
        return reader, writer

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its whole group. It is not reaped yet, so the number is its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all became another user
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it because it may not run any more. Any thread may ask for it."""
        with self._reaping:
            if not self._is_reaped:
                self.is_revoked = True
                self.signal(signal.SIGKILL)

    def reap(self) -> int | None:
        """End what is left of its group, give back all that it took, and return how it has ended.
        None: the kernel does not let it end; then Strays reap it."""
        self.signal(signal.SIGKILL)
        with self._reaping:
            self._is_reaped = True
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        self._held.close()
        return os.waitstatus_to_exitcode(status) if pid else None

    def _undo(self) -> None:
        """End what has started, but can't be watched."""
        self.signal(signal.SIGKILL)
        os.waitpid(self.pid, 0)


def unread_bytes(descriptor: int) -> int:
    """Return how much a pipe holds."""
    held = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    return int.from_bytes(held, sys.byteorder)


def read_now(descriptor: int) -> bytes | None:
    """Return what is there; nothing when nothing more comes; None when nothing is there now."""
    try:
        return os.read(descriptor, CHUNK_BYTES)
    except BlockingIOError:
        return None
