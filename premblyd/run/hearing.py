"""What a worker process writes, as it comes: its answers, line by line, and what it prints. What
that means is for conversation.py."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from premblyd.run.protocol import MAX_LINE_BYTES
from premblyd.run.workerprocess import WorkerProcess, read_now

MOST_CHUNKS = 32  # that are read of an ended process: what it left may write for ever
FLOOD_BYTES = 4 << 10
FLOOD_PAUSE_S = 0.005  # after such a read of nothing useful: a flood must not take a whole core


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


class Hearing:
    """Hears a worker process until it is told to `stop`, or to hear no more answers."""

    def __init__(self, process: WorkerProcess, listener: Listener) -> None:
        self._answers, self._printed = process.answers, process.printed
        self._listener = listener
        self._partial = b""
        self._is_deaf = self._is_over = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._answers, self._hear)
        self._loop.add_reader(self._printed, self._take_printed)

    def be_deaf(self) -> None:
        """Hear no more answers: nothing of that counts any more."""
        self._is_deaf, self._partial = True, b""

    def stop(self) -> None:
        """Hear what the process wrote before its end, and nothing more by itself."""
        self._is_over = True
        for descriptor in (self._answers, self._printed):
            self._loop.remove_reader(descriptor)
        chunks = 0
        while chunks < MOST_CHUNKS and self._take_answers()[0]:
            chunks += 1

    def read_printed(self) -> None:
        """Take what was printed until now, because the lines change whose it can be."""
        if chunk := read_now(self._printed):
            self._listener.keep(chunk)

    def _hear(self) -> None:
        size, is_of_use = self._take_answers()
        if size >= FLOOD_BYTES and not is_of_use:
            self._pause(self._answers, self._hear)

    def _take_answers(self) -> tuple[int, bool]:
        """Take what the process has written; return how many bytes, and whether they are of use."""
        chunk = None if self._is_deaf else read_now(self._answers)
        if chunk is None:
            return 0, False
        if not chunk:
            self._loop.remove_reader(self._answers)
            self._listener.answers_end()
            return 0, False
        is_of_use = False
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            if not self._is_deaf and self._listener.take(line):
                is_of_use = True
        if len(self._partial) > MAX_LINE_BYTES:
            self._listener.take_endless(self._partial)
        return len(chunk), is_of_use

    def _take_printed(self) -> None:
        if not (chunk := read_now(self._printed)):
            if chunk is not None:  # nothing more comes
                self._loop.remove_reader(self._printed)
        elif not self._listener.keep(chunk):
            self._pause(self._printed, self._take_printed)

    def _pause(self, descriptor: int, take: Callable[[], None]) -> None:
        """Read nothing for a moment."""
        self._loop.remove_reader(descriptor)
        self._loop.call_later(FLOOD_PAUSE_S, self._resume, descriptor, take)

    def _resume(self, descriptor: int, take: Callable[[], None]) -> None:
        if not self._is_over:
            self._loop.add_reader(descriptor, take)
