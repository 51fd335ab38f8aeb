"""`order: reference`: the deliveries of one reference run one at a time, in the order of receipt.

An action's deliveries with the same `order_key` that are not over stand in line: each has a row in
`ordered` with its place, and waits for the one before it. So only the first of them is in the
queue, and a claim reads no other, however many wait. What ends a delivery makes the next one due in
the same transaction (`leave`).

Whoever adds to a line or ends one of it holds the lock of its key meanwhile.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from peewee import JOIN, SQL, fn

from premblyd.features.turns.settings import Then
from premblyd.features.turns.tables import HELD_BY, Ordered
from premblyd.prembly.payload import same_id
from premblyd.queue.digests import Digests
from premblyd.queue.due import NEVER_MS, past
from premblyd.queue.hooks import End, New
from premblyd.queue.jobs import Due
from premblyd.store.engine import BulkInsert, Lookup, Row, Statement, Transaction, param
from premblyd.store.states import FINISHED, State
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
    """What the row of a delivery in a line says."""

    action: str
    order_key: str
    place: int
    waits_for_id: int | None
    blocks: bool


def order_key(digests: Digests, reference: str) -> str:
    """Return what is the same for all events of one reference, in whichever spelling of a UUID."""
    return digests.key(b"order", same_id(reference))


def lock_name(key: str) -> str:
    """Return the name of the lock of all lines of a key."""
    return f"order {key}"


def keeps_open(transaction: Transaction, delivery: Due) -> bool:
    """Return whether another host has the lines of a delivery's key, which its end changes. If not,
    none has them until the transaction ends."""
    key = delivery.group
    return key is not None and not transaction.try_lock(lock_name(key))


def locks_to_end(key: str) -> Sequence[str]:
    """Return the lock of the lines of a delivery's key."""
    return (lock_name(key),)


def lock(transaction: Transaction, delivery_ids: Sequence[int]) -> None:
    """Lock the lines in which these deliveries stand, or will when they are queued again."""
    keys, digests = set(), Digests.of(transaction)
    for key, reference in transaction.look_up(_KEYS_AND_REFERENCES, delivery_ids):
        keys |= {key, order_key(digests, reference) if isinstance(reference, str) else None}
    transaction.lock(lock_name(key) for key in keys if isinstance(key, str))


def locks_to_store(digests: Digests, reference: str) -> Iterable[str]:
    """Return the lock of the lines in which new deliveries of a reference will stand."""
    return (lock_name(order_key(digests, reference)),)


def insert(transaction: Transaction, new: Sequence[New]) -> list[int | None]:
    """Store deliveries at the ends of their lines, which are locked; return their ids."""
    digests = Digests.of(transaction)
    lines = [Line(order_key(digests, each.reference), each.action) for each in new]
    asked = {line: _asking_last(transaction, line) for line in dict.fromkeys(lines)}
    last = {line: read() for line, read in asked.items()}
    begun = {line for line, place in last.items() if place}
    rows: list[Row] = []
    for line, (event_id, _, action, attempts, now_ms, _) in zip(lines, new, strict=True):
        is_due = (None, HELD_BY) if line in begun else (now_ms, None)
        rows.append((event_id, action, State.PENDING, attempts, now_ms, *is_due))
        begun.add(line)
    ids = transaction.insert_many(_INSERT, rows)
    standing = []
    for line, each, id_ in zip(lines, new, ids, strict=True):
        position = _behind(last[line], line, each.terms == "wait")
        last[line] = LinePlace(id_ or 0, position.place)
        standing.append((id_, *position))
    transaction.write_many(_STAND, standing)
    return ids


def leave(transaction: Transaction, ends: Sequence[End], now_ms: int = NEVER_MS) -> None:
    """Have those that have ended leave their lines, and make due who is the first then. Who waits
    for one that has waited itself waits for what that has waited for. `now_ms`: of those that did
    not end just now, but earlier."""
    ids = [each.id for each in ends if each.job or each.due]
    if others := [each.id for each in ends if not (each.job or each.due)]:
        ids += [id_ for (id_,) in transaction.look_up(_IN_LINE, others)]
    for id_ in ids:
        transaction.write(_MAKE_DUE, id=id_, now_ms=now_ms)
        transaction.write(_PASS_ON, id=id_)
        transaction.write(_LEAVE, id=id_)


def let_go(transaction: Transaction, actions: Collection[str], now_ms: int) -> bool:
    """Have nobody wait behind the dead ones of these actions, nor behind what has ended and was not
    seen to leave its line; return whether somebody may have."""
    dead = [id_ for id_, action in transaction.rows(_HOLDERS) if action in actions]
    ids = [*dead, *(id_ for (id_,) in transaction.rows(_ENDED))]
    lock(transaction, ids)
    for id_ in dead:
        transaction.write(_HOLD_NOBODY, id=id_)
    leave(transaction, [End(id_, State.DEAD) for id_ in ids], now_ms)
    return bool(ids)


def _asking_last(
    transaction: Transaction, line: Line, before: int = _MAX_PLACE
) -> Callable[[], LinePlace | None]:
    """Ask for the last of a line, or the last that stands before this place; return what reads it.
    None: there is none."""
    asked = transaction.ask(_LAST, order_key=line.key, action=line.action, before=before)
    return lambda: next((LinePlace(*row) for row in asked()), None)


def again(
    transaction: Transaction, thens: Mapping[int, Then | None]
) -> Callable[[int], Mapping[str, Any]]:
    """Give deliveries that are queued again their places, one after the other; return what their
    rows say then. `thens`: as their actions have it now; None: such a one has no `order`."""
    stood = {row[0]: row[1:] for row in transaction.look_up(_OF_DELIVERIES, [*thens])}

    def columns(delivery_id: int) -> Mapping[str, Any]:
        own = stood.get(delivery_id)
        if own is None or own[1] not in FINISHED:
            return {}
        position = _position_again(transaction, own, thens[delivery_id])
        transaction.write(_FORGET, id=delivery_id)
        if position is None:
            return {}
        transaction.write_many(_STAND, [(delivery_id, *position)])
        return {"due_at_ms": None, "held_by": HELD_BY} if position.waits_for_id else {}

    return columns


def _position_again(transaction: Transaction, stood: Row, then: Then | None) -> Position | None:
    """Return where a delivery that is over stands when it is queued again: at the end of its line.
    One that is dead and holds those behind it has kept its place. None: it stands in none."""
    action, state, reference, key, place, blocks = stood
    holds_now = then == "wait"
    if state == State.DEAD and blocks:
        before = _asking_last(transaction, Line(key, action), place)()
        return Position(action, key, place, before.id if before else None, holds_now)
    if then is None or not isinstance(reference, str) or not reference:
        return None
    line = Line(order_key(Digests.of(transaction), reference), action)
    return _behind(_asking_last(transaction, line)(), line, holds_now)


def _behind(last: LinePlace | None, line: Line, blocks: bool) -> Position:
    place, before_id = (last.place + 1, last.id) if last else (1, None)
    return Position(line.action, line.key, place, before_id, blocks)


# While the feature was not installed, nobody has left a line.
_STANDS = SQL("(state IN ('pending', 'running') OR (state = 'dead' AND blocks))")
_own = Ordered.alias("own")
_other = Delivery.alias("other")
_WAITS = Ordered.waits_for_id == param("id")
_HAS_LEFT = fn.EXISTS(
    _own.select(_own.id).join(_other).where(_own.delivery == param("id"), ~_STANDS)
)
_EARLIER = (
    Ordered.select(Ordered.delivery)
    .join(Delivery)
    .where(
        Ordered.delivery.in_(_own.select(_own.waits_for_id).where(_own.delivery == param("id"))),
        _STANDS,
    )
)
_MAKE_DUE = Statement(
    Delivery.update(
        held_by=None,
        due_at_ms=_other.select(past(_other.finished_at_ms)).where(_other.id == param("id")),
    ).where(
        Delivery.id.in_(Ordered.select(Ordered.delivery).where(_WAITS)),
        fn.COALESCE(Delivery.held_by, "") == HELD_BY,
        _HAS_LEFT & ~fn.EXISTS(_EARLIER),
    )
)
_PASS_ON = Statement(Ordered.update(waits_for_id=_EARLIER).where(_WAITS, _HAS_LEFT))
_LEAVE = Statement(Ordered.delete().where(Ordered.delivery == param("id"), _HAS_LEFT))
_FORGET = Statement(Ordered.delete().where(Ordered.delivery == param("id")))
_HOLDERS = Statement(
    Ordered.select(Ordered.delivery, Ordered.action)
    .join(Delivery)
    .where(Ordered.blocks, Delivery.state == State.DEAD)
)
# While another host's claim was under way, somebody cancelled it and queued it again, in a line.
_ENDED = Statement(Ordered.select(Ordered.delivery).join(Delivery).where(~_STANDS))
_HOLD_NOBODY = Statement(Ordered.update(blocks=False).where(Ordered.delivery == param("id")))
_IN_LINE = Lookup(Ordered.select(Ordered.delivery), Ordered.delivery)
_STAND = BulkInsert(Ordered, "delivery_id", *Position._fields)
_INSERT = BulkInsert(
    Delivery,
    *("event_id", "action", "state", "attempts_left", "created_at_ms", "due_at_ms", "held_by"),
)
_LAST = Statement(
    Ordered.select(Ordered.delivery, Ordered.place)
    .join(Delivery)
    .where(
        Ordered.order_key == param("order_key"),
        Ordered.action == param("action"),
        Ordered.place < param("before"),
        _STANDS,
    )
    .order_by(Ordered.place.desc())
    .limit(1)
)
_IS_OWN = Ordered.delivery == Delivery.id
_KEYS_AND_REFERENCES = Lookup(
    Delivery.select(Ordered.order_key, Event.reference)
    .join(Event)
    .join_from(Delivery, Ordered, JOIN.LEFT_OUTER, on=_IS_OWN),
    Delivery.id,
)
_OF_DELIVERIES = Lookup(
    Delivery.select(
        Delivery.id,
        *(Delivery.action, Delivery.state, Event.reference),
        *(Ordered.order_key, Ordered.place, Ordered.blocks),
    )
    .join(Event)
    .join_from(Delivery, Ordered, JOIN.LEFT_OUTER, on=_IS_OWN),
    Delivery.id,
)
