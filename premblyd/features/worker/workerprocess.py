"""A worker process as the kernel has it: its start, pipes, signals and end; and what it
writes, line by line. conversation.py decides what that means."""

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Protocol
from weakref import WeakSet

from premblyd.features.worker.protocol import MAX_LINE_BYTES
from premblyd.features.worker.settings import WorkerHook
from premblyd.run.process import Children, mark_of, spawn
from premblyd.run.shell import environment

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


TURN_BYTES = 2 << 10  # of answers that are read in one turn of the loop: a millisecond's work
TURN_S = 0.0001  # what such a turn needs of the processor beside what is read
SHARE = 0.05  # of a processor, for reading what is of no use, of all processes together
processor_s = time.thread_time


class Listener(Protocol):
    """Who hears what the process writes."""

    def take(self, line: bytes) -> bool:
        """It has written a line of answers. Return whether that was of use."""

    def take_endless(self, text: bytes) -> None:
        """It writes a line that is too long already."""

    def answers_end(self) -> None:
        """It has closed its descriptor 4."""

    def keep(self, printed: bytes) -> bool:
        """It has printed this. Return whether all of it is kept."""


class Reader:
    """Reads a descriptor when there is something: it calls `take`, which reads a bounded part and
    returns whether that was of use. If not, it pauses, in proportion to what that has cost."""

    _pausing: ClassVar[WeakSet["Reader"]] = WeakSet()

    def __init__(self, descriptor: int, take: Callable[[], bool]) -> None:
        self._descriptor, self._take = descriptor, take
        self._is_over = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self.read)

    @property
    def is_pausing(self) -> bool:
        return self in self._pausing

    def read(self) -> None:
        """Take a part now."""
        began_s = processor_s()
        if self._take() or self._is_over:
            return
        used_s = processor_s() - began_s + TURN_S
        self._loop.remove_reader(self._descriptor)
        self._pausing.add(self)
        self._loop.call_later(used_s * len(self._pausing) / SHARE, self._resume)

    def stop(self) -> None:
        """Read nothing more."""
        self._is_over = True
        self._loop.remove_reader(self._descriptor)

    def _resume(self) -> None:
        self._pausing.discard(self)
        if not self._is_over:
            self._loop.add_reader(self._descriptor, self.read)


class Hearing:
    """Hears a worker process until `stop`, or `be_deaf` to its answers."""

    def __init__(self, process: WorkerProcess, listener: Listener) -> None:
        self._process, self._listener = process, listener
        self._partial = b""
        self._is_deaf = False
        self._rest_bytes: int | None = None  # that are still to be heard of who has ended
        self._heard: Callable[[], None] = lambda: None
        self._answers = Reader(process.answers, self._take_answers)
        self._printed = Reader(process.printed, self._take_printed)

    def be_deaf(self) -> None:
        """Hear no more answers: nothing of that counts any more."""
        self._is_deaf, self._partial = True, b""
        self._answers.stop()

    def hear_rest(self, heard: Callable[[], None]) -> None:
        """Hear the answers that the process wrote before its end, and then call `heard`. What it
        has left behind may write for ever."""
        self._heard = heard
        self._rest_bytes = 0 if self._is_deaf else unread_bytes(self._process.answers)
        if not self._rest_bytes:
            heard()
        elif not self._answers.is_pausing:
            self._answers.read()

    def stop(self) -> None:
        """Hear nothing more."""
        self._answers.stop()
        self._printed.stop()

    def read_printed(self) -> None:
        """Take what was printed until now, because the lines change whose it can be."""
        if chunk := read_now(self._process.printed):
            self._listener.keep(chunk)

    def _take_answers(self) -> bool:
        """Take a part of what the process has written. Return whether at least half of its lines
        are of use."""
        chunk = read_now(self._process.answers, TURN_BYTES)
        if not chunk:
            if chunk is not None:
                self._answers.stop()
                self._listener.answers_end()
            return True
        of_use = 0
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            of_use += not self._is_deaf and self._listener.take(line)
        if len(self._partial) > MAX_LINE_BYTES:
            self._listener.take_endless(self._partial)
        if self._rest_bytes is not None:
            self._rest_bytes -= len(chunk)
            if self._is_deaf or self._rest_bytes <= 0:
                self._heard()
        return 2 * of_use >= len(lines)

    def _take_printed(self) -> bool:
        chunk = read_now(self._process.printed)
        if chunk == b"":  # nothing more comes
            self._printed.stop()
        return not chunk or self._listener.keep(chunk)
