"""Reads what a worker process writes: its answers, line by line, and its output. conversation.py
decides what they mean."""

import asyncio
import time
from collections.abc import Callable
from typing import ClassVar, Protocol
from weakref import WeakSet

from premblyd.features.worker.protocol import MAX_LINE_BYTES
from premblyd.features.worker.workerprocess import WorkerProcess, read_now, unread_bytes

TURN_BYTES = 2 << 10  # of answers that are read in one turn of the loop: a millisecond's work
TURN_S = 0.0001  # what such a turn needs of the processor beside what is read
SHARE = 0.05  # of a processor, for reading what is of no use, of all processes together
processor_s = time.thread_time


class Listener(Protocol):
    """Who is told what the process writes."""

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
    """Hears a worker process until it is told to `stop`, or to hear no more answers."""

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
