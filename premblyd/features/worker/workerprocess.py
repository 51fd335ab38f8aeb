"""A worker process as the kernel has it: its start, pipes, signals and end. conversation.py has
what is said through the pipes."""

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path

from premblyd.features.worker.settings import WorkerHook
from premblyd.run.process import Children, mark_of
from premblyd.run.shell import environment
from premblyd.run.spawn import spawn

CHUNK_BYTES = 64 << 10  # as much as a pipe holds
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Input:
    """What a worker process reads: written at once, or when the pipe has room. All of it is for the
    loop's thread."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.written = 0
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._waiting = memoryview(b"")
        self._has_begun = False
        self._may_begin: Callable[[], bool] = lambda: True
        self._is_free: Callable[[], None] = lambda: None
        self._is_open = True

    def listen(self, may_begin: Callable[[], bool], is_free: Callable[[], None]) -> None:
        """Before it writes the first byte of what had to wait, it asks whether it `may_begin`. When
        nothing waits any more, it says that it `is_free`."""
        self._may_begin, self._is_free = may_begin, is_free

    @property
    def is_waiting(self) -> bool:
        """Whether something is not written yet, and nothing else can be."""
        return bool(self._waiting)

    @property
    def read_bytes(self) -> int:
        """How much of what was written has been read."""
        if not self._is_open:
            return self.written
        return self.written - unread_bytes(self._descriptor)

    def write(self, text: bytes) -> bool:
        """Write it: what finds no room now, later. Return False when nobody reads it."""
        written = self._write(text)
        if written is not None and written < len(text):
            self._waiting, self._has_begun = memoryview(text)[written:], written > 0
            self._loop.add_writer(self._descriptor, self._go_on)
        return written is not None

    def close(self) -> None:
        """Let the process read no more than what is written already."""
        if self._is_open:
            self._forget()
            self._is_open = False
            os.close(self._descriptor)

    def _write(self, text: bytes | memoryview) -> int | None:
        """Return how much was written; None: nobody reads it."""
        try:
            written = os.write(self._descriptor, text)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            return None
        self.written += written
        return written

    def _go_on(self) -> None:
        written = None
        if self._has_begun or self._may_begin():
            self._has_begun = True
            written = self._write(self._waiting)
        if written is None or written == len(self._waiting):
            self._forget()
            self._is_free()
        else:
            self._waiting = self._waiting[written:]

    def _forget(self) -> None:
        if self._waiting:
            self._waiting = memoryview(b"")
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

    def resident_bytes(self) -> int:
        """Return how much memory it has, as VmRSS; 0 when that can't be told."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            return 0

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


def read_now(descriptor: int, most_bytes: int = CHUNK_BYTES) -> bytes | None:
    """Return what is there; nothing when nothing more comes; None when nothing is there now."""
    try:
        return os.read(descriptor, most_bytes)
    except BlockingIOError:
        return None
