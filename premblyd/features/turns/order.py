"""`order: reference`: the deliveries of one reference run one at a time, in the order of receipt.

An action's deliveries with the same `order_key` that are not over stand in line: each
has its place in its row, and waits for the one before it. So only the first of them is in the
queue, and a claim reads no other, however many wait. The trigger `order_released`
(triggers.py) makes the next one due in the transaction that ends one, whoever ends it.

Whoever adds to a line or ends one of it holds the lock of its key meanwhile.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from peewee import SQL

from premblyd.features.turns.settings import Then
from premblyd.prembly.payload import same_id
from premblyd.queue.digests import Digests
from premblyd.queue.hooks import New
from premblyd.queue.jobs import Due, Job
from premblyd.store.engine import BulkInsert, Lookup, Row, Statement, Transaction, param
from premblyd.store.states import State
from premblyd.store.tables import Delivery, Event

_MAX_PLACE = 1 << 62


class Line(NamedTuple):
    """Those that wait for each other: of one reference and one action."""

    key: str
    action: str


class LinePlace(NamedTuple):
    """One that stands in a line."""

    id: int
    place: int


class Position(NamedTuple):
    """What the row of a delivery says of its place; of one without `order`, NOWHERE."""

    order_key: str | None
    order_place: int | None
    waits_for_id: int | None
    blocks_order: bool


NOWHERE = Position(None, None, None, False)


def order_key(digests: Digests, reference: str) -> str:
    """Return what is the same for all events of one reference, in whichever spelling of a UUID."""
    return digests.key(b"order", same_id(reference))


def lock_name(key: str) -> str:
    """Return the name of the lock of all lines of a key. The trigger knows it too."""
    return f"order {key}"


def keeps_open(transaction: Transaction, delivery: Due) -> bool:
    """Return whether another host has the lines of a delivery's key, which its end changes. If not,
    none has them until the transaction ends."""
    key = delivery.order_key
    return key is not None and not transaction.try_lock(lock_name(key))


def locks_to_end(ending: Due | Job) -> Sequence[str]:
    """Return the lock of the lines of a delivery's key."""
    return () if ending.order_key is None else (lock_name(ending.order_key),)


def lock(transaction: Transaction, delivery_ids: Sequence[int]) -> None:
    """Lock the lines in which these deliveries stand, or will when they are queued again."""
    keys, digests = set(), Digests.of(transaction)
    for key, reference in transaction.look_up(_KEYS_AND_REFERENCES, delivery_ids):
        keys |= {key, order_key(digests, reference) if isinstance(reference, str) else None}
    transaction.lock(lock_name(key) for key in keys if isinstance(key, str))


def locks_to_store(digests: Digests, reference: str) -> Iterable[str]:
    """Return the lock of the lines in which new deliveries of a reference will stand."""
    return (lock_name(order_key(digests, reference)),)


def insert(transaction: Transaction, new: Iterable[New]) -> list[int | None]:
    """Store deliveries at the ends of their lines, which are locked; return the ids in the order in
    which they were stored. Of one line each refers to the one before, so that is stored first."""
    digests = Digests.of(transaction)
    lines: dict[Line, deque[New]] = {}
    for each in new:
        line = Line(order_key(digests, each.reference), each.action)
        lines.setdefault(line, deque()).append(each)
    last = {line: last_of(transaction, line) for line in lines}
    ids: list[int | None] = []
    for round_ in zip_longest(*lines.values()):
        ranks = [(line, each) for line, each in zip(lines, round_, strict=True) if each is not None]
        positions = [_behind(last[line], line, each.terms == "wait") for line, each in ranks]
        rows = [
            (
                each.event_id,
                each.action,
                State.PENDING,
                None if position.waits_for_id else each.now_ms,
                each.attempts,
                each.now_ms,
                *position,
            )
            for (_, each), position in zip(ranks, positions, strict=True)
        ]
        stored = transaction.insert_many(_INSERT, rows)
        for (line, _), position, id_ in zip(ranks, positions, stored, strict=True):
            if id_ is not None and position.order_place is not None:
                last[line] = LinePlace(id_, position.order_place)
        ids += stored
    return ids


def last_of(transaction: Transaction, line: Line, before: int = _MAX_PLACE) -> LinePlace | None:
    """Return the last of a line, or the last that stands before this place; None: there is none."""
    row = transaction.row(_LAST, order_key=line.key, action=line.action, before=before)
    return LinePlace(*row) if row else None


def again(
    transaction: Transaction, thens: Mapping[int, Then | None]
) -> Callable[[int], Mapping[str, Any]]:
    """Return what the rows of deliveries that are queued again say of their places, one after the
    other."""
    stood = {row[0]: row for row in transaction.look_up(_OF_DELIVERIES, [*thens])}

    def columns(delivery_id: int) -> Mapping[str, Any]:
        position = _position_again(transaction, stood.get(delivery_id), thens[delivery_id])
        return position._asdict() | ({"due_at_ms": None} if position.waits_for_id else {})

    return columns


def _position_again(transaction: Transaction, stood: Row | None, then: Then | None) -> Position:
    """Return where a delivery that is over stands when it is queued again: at the end of its line.
    One that is dead and holds those behind it has kept its place. `stood`: what is known of it;
    None: it is gone. `then`: as its action has it now; None: that has no `order`."""
    if stood is None:
        return NOWHERE
    _, action, state, key, place, holds, reference = stood
    holds_now = then == "wait"
    if state == State.DEAD and holds:
        before = last_of(transaction, Line(key, action), place)
        return Position(key, place, before.id if before else None, holds_now)
    if then is None or not isinstance(reference, str) or not reference:
        return NOWHERE
    line = Line(order_key(Digests.of(transaction), reference), action)
    return _behind(last_of(transaction, line), line, holds_now)


def _behind(last: LinePlace | None, line: Line, holds: bool) -> Position:
    if last is None:
        return Position(line.key, 1, None, holds)
    return Position(line.key, last.place + 1, last.id, holds)


_INSERT = BulkInsert(
    Delivery,
    "event_id",
    "action",
    "state",
    "due_at_ms",
    "attempts_left",
    "created_at_ms",
    *Position._fields,
)
_LAST = Statement(
    Delivery.select(Delivery.id, Delivery.order_place)
    .where(
        Delivery.order_key == param("order_key"),
        Delivery.action == param("action"),
        Delivery.order_place < param("before"),
        Delivery.order_place > 0,
        # As text: by it both engines see that this asks for the rows of the partial index.
        SQL("(state IN ('pending', 'running') OR (state = 'dead' AND blocks_order))"),
    )
    .order_by(Delivery.order_place.desc())
    .limit(1)
)
_KEYS_AND_REFERENCES = Lookup(
    Delivery.select(Delivery.order_key, Event.reference).join(Event), Delivery.id
)
_OF_DELIVERIES = Lookup(
    Delivery.select(
        Delivery.id,
        Delivery.action,
        Delivery.state,
        Delivery.order_key,
        Delivery.order_place,
        Delivery.blocks_order,
        Event.reference,
    ).join(Event),
    Delivery.id,
)
