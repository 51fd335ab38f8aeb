"""What a worker process writes that settles nothing: how much of it is read in one turn of the
loop, and how much of a processor all who write it may have."""

import asyncio
import heapq
import itertools
import os
import select
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, cast

import pytest

from premblyd.features.worker import workerprocess
from premblyd.features.worker.workerprocess import Hearing, WorkerProcess
from tests.support.workers import Working, shell

LINE_S = 4e-6  # of a processor, for each line
BUSY = b"busy 1\n"
OK = b"ok 1\n"


class Loop:
    """A loop whose time passes as its work needs the processor; and to the next timer when nobody
    may read anything."""

    def __init__(self) -> None:
        self.now_s = self.used_s = self.most_s = 0.0
        self.readers: dict[int, Callable[[], None]] = {}
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def add_reader(self, descriptor: int, read: Callable[[], None]) -> None:
        self.readers[descriptor] = read

    def remove_reader(self, descriptor: int) -> bool:
        return self.readers.pop(descriptor, None) is not None

    def call_later(self, delay_s: float, act: Callable[..., None], *about: Any) -> None:
        due = (self.now_s + delay_s, next(self._count), lambda: act(*about))
        heapq.heappush(self.timers, due)

    def use(self, seconds: float) -> None:
        self.used_s += seconds
        self.now_s += seconds

    def turn(self) -> bool:
        """Turn once. Return whether there was anything to do."""
        readable = select.select(self.readers, (), (), 0)[0]
        if not readable and self.timers:
            self.now_s = max(self.now_s, self.timers[0][0])
        due = [self.readers[descriptor] for descriptor in readable]
        while self.timers and self.timers[0][0] <= self.now_s:
            due.append(heapq.heappop(self.timers)[2])
        for act in due:
            before_s = self.used_s
            act()
            self.most_s = max(self.most_s, self.used_s - before_s)
        return bool(due)


class Heard:
    """A worker process that is heard: what it writes is `text`, again and again. Of what it writes
    `ok` alone is of use, and nothing of what it prints."""

    def __init__(self, loop: Loop, text: bytes, *, prints: bool = False) -> None:
        self._loop = loop
        self.answers, answering = os.pipe()
        self.printed, printing = os.pipe()
        self._opened = (self.answers, answering, self.printed, printing)
        for descriptor in self._opened:
            os.set_blocking(descriptor, False)
        self._writes, self._text = printing if prints else answering, text
        self.taken: list[bytes] = []
        self.hearing = Hearing(cast(WorkerProcess, self), self)

    def write(self) -> None:
        """Write as much as the pipe takes."""
        try:
            while os.write(self._writes, self._text * (4000 // len(self._text))):
                pass
        except BlockingIOError:
            return

    def take(self, line: bytes) -> bool:
        self._loop.use(LINE_S)
        self.taken.append(line)
        return line.startswith(b"ok")

    def take_endless(self, text: bytes) -> None:
        raise AssertionError(text)

    def answers_end(self) -> None:
        raise AssertionError

    def keep(self, printed: bytes) -> bool:
        self._loop.use(LINE_S * len(printed) / 7)
        return False

    def close(self) -> None:
        self.hearing.stop()
        for descriptor in self._opened:
            os.close(descriptor)


@pytest.fixture(name="loop")
def make_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    monkeypatch.setattr(workerprocess, "processor_s", lambda: loop.used_s)
    yield loop
    while loop.timers:  # they refer to what has paused
        loop.turn()


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize(
    ("text", "prints"), [(BUSY, False), (OK + 20 * BUSY, False), (b"x" * 4000, True)]
)
def test_those_who_flood_have_together_a_small_share_of_a_processor(
    loop: Loop, text: bytes, prints: bool, count: int
) -> None:
    flooding = [Heard(loop, text, prints=prints) for _ in range(count)]
    for _ in range(40 * count):
        for each in flooding:
            each.write()
        loop.turn()
    assert loop.used_s > 0.01
    assert loop.used_s <= 1.1 * workerprocess.SHARE * loop.now_s
    for each in flooding:
        each.close()


def test_of_who_has_ended_all_is_heard_in_such_turns_and_then_it_is_over(loop: Loop) -> None:
    with closing(Heard(loop, BUSY)) as flooding:
        ended: list[int] = []
        flooding.write()
        flooding.hearing.hear_rest(lambda: ended.append(len(flooding.taken)))
        loop.turn()
        flooding.write()  # what is left of its group writes for ever
        while loop.turn():
            pass
        assert len(ended) == 1
        assert 8000 < ended[0] < 12000
        assert 0 < loop.most_s <= LINE_S * 300


def test_who_answers_is_not_made_to_wait(loop: Loop) -> None:
    with closing(Heard(loop, OK)) as answering:
        answering.write()
        while loop.turn():
            assert not loop.timers
        assert len(answering.taken) > 8000


@pytest.mark.process
async def test_the_answer_after_a_flood_counts_also_of_who_ends_at_once() -> None:
    flood = 'yes "busy $n" | head -c 63000 >&4; echo "ok $n" >&4; exit'
    async with Working(worker=shell(flood)) as at:
        assert (await at.run(5)).outcome == "succeeded"
