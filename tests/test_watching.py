"""When the loop looks at a connection's socket: seldom, and never in vain for long."""

import asyncio
import socket
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
from tornado.ioloop import IOLoop

from premblyd.receive.connection import PatientLoop
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("io_loop")
READ, WRITE = IOLoop.READ, IOLoop.WRITE
PAUSED = IOLoop.ERROR  # which Tornado always asks for
READING = PAUSED | READ


class RecordingLoop:
    """Tornado's loop, that remembers what it was told to look for."""

    def __init__(self) -> None:
        self._loop = IOLoop.current()
        self.told: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def update_handler(self, fd: int, events: int) -> None:
        self.told.append(events)
        self._loop.update_handler(fd, events)


class Listener:
    """What a stream is to its loop: it hears of events, and reads what has arrived."""

    def __init__(self, own: socket.socket, loop: PatientLoop) -> None:
        self.own = own
        self.loop = loop  # as a stream refers to it
        self.heard: list[int] = []
        loop.add_handler(own.fileno(), self.hear, READING)

    def hear(self, fd: int, events: int) -> None:
        self.heard.append(events)
        if events & READ:
            self.own.recv(1024)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    own, other = socket.socketpair()
    with own, other:
        own.setblocking(False)
        yield own, other


@dataclass
class Watched:
    """A stream's socket, and what its loop and the loop below are told of it."""

    other: socket.socket
    recording: RecordingLoop
    listener: Listener

    def want(self, events: int) -> None:
        self.listener.loop.update_handler(self.listener.own.fileno(), events)


@pytest.fixture
def watched(io_loop: IOLoop, ends: tuple[socket.socket, socket.socket]) -> Iterator[Watched]:
    own, other = ends

    async def made() -> Watched:
        recording = RecordingLoop()
        return Watched(other, recording, Listener(own, PatientLoop(cast(IOLoop, recording))))

    watched = io_loop.run_sync(made)
    yield watched
    watched.listener.loop.remove_handler(own.fileno())


async def test_a_pause_in_which_nothing_arrives_tells_the_loop_nothing(watched: Watched) -> None:
    for _ in range(3):
        watched.other.send(b"a head")
        await until(lambda: bool(watched.listener.heard))
        watched.want(PAUSED)
        watched.want(READING)
        watched.listener.heard.clear()
    assert watched.recording.told == []


async def test_what_arrives_in_a_pause_wakes_the_loop_once_and_is_heard_afterwards(
    watched: Watched,
) -> None:
    watched.want(PAUSED)
    watched.other.send(b"the next head")
    await until(lambda: watched.recording.told == [PAUSED])
    for _ in range(10):
        await asyncio.sleep(0)
    assert (watched.recording.told, watched.listener.heard) == ([PAUSED], [])
    watched.want(READING)
    await until(lambda: watched.listener.heard == [READ])


async def test_what_was_to_be_written_is_no_longer_looked_for_at_once(watched: Watched) -> None:
    watched.want(PAUSED | WRITE)
    await until(lambda: WRITE in watched.listener.heard)
    watched.want(PAUSED)
    assert watched.recording.told == [READING | WRITE, READING]


@pytest.mark.usefixtures("no_collector")
async def test_a_closed_stream_is_freed_without_a_search_for_garbage(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    own, _ = ends
    listener = Listener(own, PatientLoop(IOLoop.current()))
    listener.loop.remove_handler(own.fileno())
    listener.loop.remove_handler(own.fileno())  # as Tornado may
    freed = weakref.ref(listener)
    del listener
    assert freed() is None
