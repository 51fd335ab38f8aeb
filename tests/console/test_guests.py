"""Whose connection stays when there are too many."""

import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from tornado.iostream import IOStream

from premblyd.console.strangers import FEWEST, Guests

LIMIT = 40
Connect = Callable[[int], list[IOStream]]


@pytest.fixture(name="connect")
def make_streams() -> Iterator[Connect]:
    """Makes so many streams, each with a peer that is there."""
    with ExitStack() as held:

        def connect(count: int) -> list[IOStream]:
            pairs = [socket.socketpair() for _ in range(count)]
            for end in itertools.chain(*pairs):
                held.enter_context(end)
            return [IOStream(ours) for ours, _ in pairs]

        yield connect


def are_open(streams: list[IOStream]) -> list[bool]:
    return [not stream.closed() for stream in streams]


async def test_of_an_address_the_oldest_strangers_go(connect: Connect) -> None:
    guests = Guests()
    streams = connect(LIMIT // 4 + 3)
    assert all(guests.welcome(each, "192.0.2.1", LIMIT) for each in streams)
    assert are_open(streams) == [False] * 3 + [True] * (LIMIT // 4)
    (other,) = connect(1)
    assert guests.welcome(other, "192.0.2.2", LIMIT)
    assert are_open(streams) == [False] * 3 + [True] * (LIMIT // 4)
    few = connect(FEWEST)
    assert all(guests.welcome(each, "192.0.2.3", 10) for each in few)


async def test_an_operator_stays_whoever_comes(connect: Connect) -> None:
    guests = Guests()
    (own,) = connect(1)
    assert guests.welcome(own, "192.0.2.1", LIMIT)
    guests.admit(own)
    crowd = connect(3 * LIMIT)
    for number, each in enumerate(crowd):
        assert guests.welcome(each, f"192.0.2.{number % 100}", LIMIT)
    assert not own.closed()
    assert sum(are_open(crowd)) == LIMIT - 1


async def test_who_holds_the_most_makes_room_for_others(connect: Connect) -> None:
    guests = Guests()
    alone = connect(30)
    for number, each in enumerate(alone):
        guests.welcome(each, f"192.0.2.{number}", LIMIT)
    many = connect(10)
    for each in many:
        guests.welcome(each, "198.51.100.1", LIMIT)
    (newest,) = connect(1)
    assert guests.welcome(newest, "192.0.2.77", LIMIT)
    assert all(are_open(alone))
    assert are_open(many) == [False] + [True] * 9


async def test_where_all_are_operators_nobody_else_gets_in(connect: Connect) -> None:
    guests = Guests()
    streams = connect(FEWEST)
    for each in streams:
        guests.welcome(each, "192.0.2.1", FEWEST)
        guests.admit(each)
    (late,) = connect(1)
    assert not guests.welcome(late, "192.0.2.2", FEWEST)
    streams[0].close()
    assert guests.welcome(late, "192.0.2.2", FEWEST)
    assert all(are_open(streams[1:]))


async def test_who_has_asked_for_something_is_answered(connect: Connect) -> None:
    guests = Guests()
    streams = connect(LIMIT // 4)
    for each in streams:
        guests.welcome(each, "192.0.2.1", LIMIT)
    for each in streams[:-1]:
        guests.begin(each)
    later, last = connect(2)
    assert guests.welcome(later, "192.0.2.1", LIMIT)
    assert are_open(streams) == [True] * (len(streams) - 1) + [False]
    guests.begin(later)
    assert not guests.welcome(last, "192.0.2.1", LIMIT)
    guests.end(streams[0])
    assert guests.welcome(last, "192.0.2.1", LIMIT)
    assert streams[0].closed()


async def test_who_has_had_an_answer_goes_before_who_waits_for_one(connect: Connect) -> None:
    guests = Guests()
    waiting, answered = connect(2)
    rest = connect(LIMIT // 4 - 2)
    for each in (waiting, answered, *rest):
        assert guests.welcome(each, "192.0.2.1", LIMIT)
    guests.begin(answered)
    guests.end(answered)
    (newcomer,) = connect(1)
    assert guests.welcome(newcomer, "192.0.2.1", LIMIT)
    assert are_open([waiting, answered, newcomer]) == [True, False, True]
