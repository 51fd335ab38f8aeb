"""When the loop looks at a connection's socket: seldom, and never in vain for long."""

import asyncio
import socket
import weakref
from collections.abc import Iterator
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


@pytest.mark.gen_test
async def test_a_pause_in_which_nothing_arrives_tells_the_loop_nothing(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    own, other = ends
    recording = RecordingLoop()
    loop = PatientLoop(cast(IOLoop, recording))
    listener = Listener(own, loop)
    for _ in range(3):
        other.send(b"a head")
        await until(lambda: bool(listener.heard))
        loop.update_handler(own.fileno(), PAUSED)
        loop.update_handler(own.fileno(), READING)
        listener.heard.clear()
    assert recording.told == []
    loop.remove_handler(own.fileno())


@pytest.mark.gen_test
async def test_what_arrives_in_a_pause_wakes_the_loop_once_and_is_heard_afterwards(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    own, other = ends
    recording = RecordingLoop()
    loop = PatientLoop(cast(IOLoop, recording))
    listener = Listener(own, loop)
    loop.update_handler(own.fileno(), PAUSED)
    other.send(b"the next head")
    await until(lambda: recording.told == [PAUSED])
    for _ in range(10):
        await asyncio.sleep(0)
    assert (recording.told, listener.heard) == ([PAUSED], [])
    loop.update_handler(own.fileno(), READING)
    await until(lambda: listener.heard == [READ])
    loop.remove_handler(own.fileno())


@pytest.mark.gen_test
async def test_what_was_to_be_written_is_no_longer_looked_for_at_once(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    own, _ = ends
    recording = RecordingLoop()
    loop = PatientLoop(cast(IOLoop, recording))
    listener = Listener(own, loop)
    loop.update_handler(own.fileno(), PAUSED | WRITE)
    await until(lambda: WRITE in listener.heard)
    loop.update_handler(own.fileno(), PAUSED)
    assert recording.told == [READING | WRITE, READING]
    loop.remove_handler(own.fileno())


@pytest.mark.gen_test
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
