"""How the actions of a host share its slots and its memory for large bodies.

Hooks may run for hours, so what a slow action may take is bounded before another one needs it: a
slot, and some room for a large body, are kept for each action that has none. What is free beyond
goes to those that have the fewest (`Shares`). Who is first changes from claim to claim (`Rota`).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

from premblyd.queue.jobs import SMALL_BYTES, Claimable, Due, Room


def counted_bytes(body_bytes: int) -> int:
    """Return what a body takes of the room for bodies. Small ones don't count: the number of hooks
    bounds them, and they never wait for large ones."""
    return body_bytes if body_bytes > SMALL_BYTES else 0


class Rota:
    """Which of the actions has had its turn the longest ago."""

    def __init__(self) -> None:
        self._turns: dict[str, int] = {}
        self._count = 0

    def place(self, name: str) -> int:
        """Return the number by which actions are sorted: the smallest is next."""
        return self._turns.get(name, 0)

    def had_turn(self, names: Iterable[str], actions: Collection[str]) -> None:
        """Let these stand behind all others. No more are remembered than there are `actions`."""
        for name in names:
            self._count += 1
            self._turns[name] = self._count
        if len(self._turns) > len(actions):
            for name in [name for name in self._turns if name not in actions]:
                del self._turns[name]


class Shares:
    """The free slots and the free room, as one claim gives them out. Of `actions` there may
    be thousands, so only those that run something are looked at one by one."""

    def __init__(self, actions: Mapping[str, Claimable], room: Room) -> None:
        self._actions, self._room = actions, room
        self._busy = Counter(room.hooks)
        self._bytes = Counter(room.held_bytes)
        busy = [count for name, count in room.hooks.items() if name in actions]
        self._idle = len(actions) - len(busy)
        self._free = room.limit
        self._max_bytes = room.max_bytes
        self._used_bytes = self._bytes.total()
        slots = room.limit + sum(busy)  # without those that an action has which is gone
        # With fewer slots than actions, each can't have one: then half of them are kept.
        self._most_kept = slots if len(actions) <= slots else slots // 2
        self._share_bytes = room.max_bytes // (2 * max(1, len(actions)))
        held = (
            min(self._bytes[name], self._share_bytes) for name in room.held_bytes if name in actions
        )
        self._kept_bytes = self._share_bytes * len(actions) - sum(held)
        self._blocked: set[str] = set()  # actions whose next large body finds no room
        self._may_take_share = self._may_take_rest = True  # of the room
        self.waits_for_room: str | None = None  # the action that comes first once there is room

    def free(self, name: str) -> int:
        """Return how many more hooks of an action may begin, by its own bounds too."""
        action, room = self._actions[name], self._room
        free = max(0, action.slots - room.hooks.get(name, 0))
        if action.is_gated:
            free = min(free, room.gates)
        return min(free, self.slots_of(name))

    def slots_of(self, name: str) -> int:
        """Return how many more hooks of an action may begin: always one, if any may, of an action
        that runs none."""
        is_idle = not self._busy[name]
        unkept = self._free - min(self._idle - is_idle, self._most_kept)
        return max(0, unkept, min(self._free, int(is_idle)))

    def choose(
        self, due: Iterable[Due], place: Callable[[str], int], first_for_room: str | None
    ) -> list[Due]:
        """Return which of the due deliveries begin: those of an action in their order, and first of
        the action that runs the fewest; of several, which `place` says. `first_for_room`: the
        action that waited for room in the last claim."""
        ranks = Counter(self._busy)
        ranked = []
        for delivery in due:
            name = delivery.action
            ranked.append((name != first_for_room, ranks[name], place(name), delivery))
            ranks[name] += 1
        ranked.sort(key=lambda entry: entry[:3])
        return [delivery for *_, delivery in ranked if self._take(delivery)]

    def _take(self, delivery: Due) -> bool:
        """Take a slot and room for a delivery. Return whether it got them."""
        name = delivery.action
        cost = counted_bytes(delivery.body_bytes)
        if not self.slots_of(name) or (cost and not self._has_room(name, cost)):
            return False
        self._free -= 1
        self._idle -= not self._busy[name]
        self._busy[name] += 1
        self._kept_bytes -= self._kept_for(name)
        self._bytes[name] += cost
        self._kept_bytes += self._kept_for(name)
        self._used_bytes += cost
        return True

    def _has_room(self, name: str, cost: int) -> bool:
        """Return whether a large body finds room. If not, those behind it wait too: they must not
        overtake it."""
        if name in self._blocked:
            return False
        # The shares are half of the room. A body that needs more waits until they are free too.
        is_huge = cost > self._max_bytes // 2
        if self._bytes[name] + cost <= self._share_bytes:
            fits = self._may_take_share and self._fits(cost)
        else:
            kept = 0 if is_huge else self._kept_bytes - self._kept_for(name)
            fits = self._may_take_rest and self._fits(cost + kept)
        if not fits:
            self._blocked.add(name)
            if not self._bytes[name] and self.waits_for_room is None:
                self.waits_for_room = name
                self._may_take_rest = False
                self._may_take_share = not is_huge
        return fits

    def _kept_for(self, name: str) -> int:
        """Return how many bytes no other action may take."""
        return max(0, self._share_bytes - self._bytes[name])

    def _fits(self, cost: int) -> bool:
        """Return whether there is room for so many bytes. Alone, every body runs."""
        return not self._used_bytes or self._used_bytes + cost <= self._max_bytes
