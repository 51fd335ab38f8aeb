"""How the actions share the slots and the room of a host: none starves another."""

from collections import Counter
from collections.abc import Iterable

from premblyd.queue.jobs import SMALL_BYTES, Claimable, Due, Room
from premblyd.queue.shares import Shares
from tests.support.rows import for_each

MIB = 1 << 20


def shares_of(names: Iterable[str], load: Room) -> Shares:
    return Shares(dict.fromkeys(names, Claimable(slots=99, lease_ms=1, digest="")), load)


@for_each(
    ("used", "sizes", "begin"),
    [
        (0, [11, 1], [11]),  # alone, every body runs
        (0, [1, 10, 1], [1]),  # what finds no room is not overtaken
        (8, [2], [2]),
        (8, [3], []),
        (8, [3, SMALL_BYTES / MIB], [SMALL_BYTES / MIB]),
    ],
)
def test_what_fits(used: int, sizes: list[float], begin: list[float]) -> None:
    load = Room(limit=9, hooks={"a": 1}, held_bytes={"a": used * MIB}, max_bytes=10 * MIB)
    assert chosen(shares_of("a", load), ("a", *sizes)) == [("a", size) for size in begin]


@for_each(
    ("busy", "limit", "begin"),
    [
        ({}, 1, {"c": 1}),  # it has waited the longest
        ({}, 7, {"a": 2, "b": 2, "c": 3}),
        ({"a": 4, "b": 4}, 1, {"c": 1}),  # the one that runs nothing
        ({"a": 4, "b": 4}, 3, {"c": 3}),  # then the one that runs the fewest
        ({"a": 4, "b": 2, "c": 3}, 3, {"b": 2, "c": 1}),
    ],
)
def test_a_free_slot_is_for_the_action_that_runs_the_fewest(
    busy: dict[str, int], limit: int, begin: dict[str, int]
) -> None:
    shares = shares_of("abc", Room(limit=limit, hooks=busy))
    found = chosen(shares, ("a", *[0] * 9), ("b", *[0] * 9), ("c", *[0] * 9), first="cab")
    assert Counter(name for name, _ in found) == begin


@for_each(
    ("slots", "actions", "alone"),
    [(16, 1, 16), (16, 2, 15), (16, 16, 1), (2, 2, 1), (1, 1, 1), (1, 9, 1), (2, 9, 1), (8, 9, 4)],
)
def test_a_slot_is_kept_for_each_action_that_runs_nothing_or_half_of_all(
    slots: int, actions: int, alone: int
) -> None:
    """An action that is alone with much to do gets the others."""
    names = [f"a{number}" for number in range(actions)]
    shares = shares_of(names, Room(limit=slots))
    assert shares.slots_of("a0") == alone
    assert len(chosen(shares, ("a0", *[0] * 20))) == alone
    if slots >= actions:
        assert len(chosen(shares, *((name, 0) for name in names[1:]))) == actions - 1


def test_some_room_is_kept_for_each_action_that_holds_no_large_body() -> None:
    """A twelfth of 12 MiB for each of six: all that a body up to it ever waits for is a slot."""
    names = "abcdef"
    shares = shares_of(names, Room(limit=99, max_bytes=12 * MIB))
    assert chosen(shares, ("a", *[1] * 20)) == [("a", 1)] * 7
    each = [(name, 1) for name in names[1:]]
    assert chosen(shares, *each) == each
    assert chosen(shares, ("b", 1), ("f", 1)) == []


def test_a_body_that_finds_no_room_is_first_when_there_is_some() -> None:
    hooks = {"a": 5, "b": 1}
    full = shares_of(
        "ab", Room(limit=9, hooks=hooks, held_bytes={"b": 9 * MIB}, max_bytes=10 * MIB)
    )
    assert chosen(full, ("a", 4), ("b", 1)) == []
    assert full.waits_for_room == "a"
    emptier = shares_of("ab", Room(limit=9, hooks={"a": 5}, max_bytes=10 * MIB))
    found = chosen(emptier, ("b", 9), ("a", 4), first_for_room=full.waits_for_room)
    assert (found, emptier.waits_for_room) == ([("a", 4)], "b")


def chosen(
    shares: Shares,
    *due: tuple[str, *tuple[float, ...]],
    first: str = "",
    first_for_room: str | None = None,
) -> list[tuple[str, float]]:
    """Return which deliveries begin of those that are due: an action, and its bodies' MiB."""
    rows = [
        Due(0, number, name, "pending", 0, 1, None, round(size * MIB))
        for name, *sizes in due
        for number, size in enumerate(sizes)
    ]
    begin = shares.choose(rows, first.find, first_for_room)
    return [(row.action, row.body_bytes / MIB) for row in begin]
