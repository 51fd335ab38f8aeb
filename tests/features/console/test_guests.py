"""Whose connection stays when there are too many."""

import itertools
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tornado.iostream import IOStream

from premblyd.features.console.access import FEWEST, Guests

LIMIT = 40
OWN, OTHER = "192.0.2.1", "192.0.2.2"


class Door(Guests):
    """Guests, of whom a test says who comes."""

    def __init__(self, held: ExitStack) -> None:
        super().__init__()
        self._held = held

    def come(self, count: int, *addresses: str, limit: int = LIMIT) -> list[IOStream]:
        """Let so many come, in turn from these addresses. All get in."""
        streams = [self.stream() for _ in range(count)]
        for stream, address in zip(streams, itertools.cycle(addresses or [OWN]), strict=False):
            assert self.welcome(stream, address, limit)
        return streams

    def stream(self) -> IOStream:
        ends = [self._held.enter_context(end) for end in socket.socketpair()]
        return IOStream(ends[0])


@pytest.fixture(name="door")
def make_door() -> Iterator[Door]:
    with ExitStack() as held:
        yield Door(held)


def are_open(streams: list[IOStream]) -> list[bool]:
    return [not stream.closed() for stream in streams]


async def test_of_an_address_the_oldest_strangers_go(door: Door) -> None:
    streams = door.come(LIMIT // 4 + 3)
    assert are_open(streams) == [False] * 3 + [True] * (LIMIT // 4)
    door.come(1, OTHER)
    assert are_open(streams) == [False] * 3 + [True] * (LIMIT // 4)
    door.come(FEWEST, "192.0.2.3", limit=10)


async def test_an_operator_stays_whoever_comes(door: Door) -> None:
    (own,) = door.come(1)
    door.admit(own)
    crowd = door.come(3 * LIMIT, *(f"192.0.2.{number}" for number in range(100)))
    assert not own.closed()
    assert sum(are_open(crowd)) == LIMIT - 1


async def test_who_holds_the_most_makes_room_for_others(door: Door) -> None:
    alone = door.come(30, *(f"192.0.2.{number}" for number in range(30)))
    many = door.come(10, "198.51.100.1")
    door.come(1, "192.0.2.77")
    assert all(are_open(alone))
    assert are_open(many) == [False] + [True] * 9


async def test_where_all_are_operators_nobody_else_gets_in(door: Door) -> None:
    streams = door.come(FEWEST, limit=FEWEST)
    for each in streams:
        door.admit(each)
    late = door.stream()
    assert not door.welcome(late, OTHER, FEWEST)
    streams[0].close()
    assert door.welcome(late, OTHER, FEWEST)
    assert all(are_open(streams[1:]))


async def test_who_has_asked_for_something_is_answered(door: Door) -> None:
    streams = door.come(LIMIT // 4)
    for each in streams[:-1]:
        door.begin(each)
    (later,) = door.come(1)
    assert are_open(streams) == [True] * (len(streams) - 1) + [False]
    door.begin(later)
    assert not door.welcome(door.stream(), OWN, LIMIT)
    door.end(streams[0])
    door.come(1)
    assert streams[0].closed()


async def test_who_has_had_an_answer_goes_before_who_waits_for_one(door: Door) -> None:
    waiting, answered, *_ = door.come(LIMIT // 4)
    door.begin(answered)
    door.end(answered)
    door.come(1)
    assert are_open([waiting, answered]) == [True, False]
