"""`order: reference`: the deliveries of one reference run one at a time, in the order of receipt.

An action's deliveries with the same `order_key` that are not over stand in line: each
has its place in its row, and waits for the one before it. So only the first of them is in the
queue, and a claim reads no other, however many wait. The trigger `order_released`
(migrations/0005_hosts.py) makes the next one due in the transaction that ends one, whoever ends it.

Whoever adds to a line or ends one of it holds the lock of its key meanwhile.

premblyd keeps in every transaction that who waits, waits for one that will end. But the database is
open to other programs, and nothing that somebody changes by hand may keep a delivery waiting for
ever: so `Mending` looks.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, NamedTuple

from peewee import fn

from premblyd import loops
from premblyd.engines.engine import BulkInsert, Lookup, Row, Statement, Transaction, param, update
from premblyd.engines.writer import Step, Writer
from premblyd.model.states import BROKEN, State
from premblyd.model.tables import HOLDS_ITS_PLACE, WAITS_FOR_ANOTHER, Delivery, Event
from premblyd.prembly.payload import same_id
from premblyd.queue import damage
from premblyd.queue.keys import digest
from premblyd.telemetry import tell
from premblyd.times import Clock

Then = Literal["continue", "wait"]  # see config.models.Order
PORTION = 500  # rows that one look for broken lines reads
PAUSE_S = 60.0  # between two such looks, once all was looked at after the start
_MAX_PLACE = 1 << 62  # above are only those that somebody wrote there by hand


class Line(NamedTuple):
    """Those that wait for each other: of one reference and one action."""

    key: str
    action: str


class LinePlace(NamedTuple):
    """One that stands in a line."""

    id: int
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A delivery of an action with `order` that is to be stored."""

    event_id: int
    line: Line
    attempts: int
    now_ms: int
    holds: bool  # those behind it, when it is dead


class Position(NamedTuple):
    """What the row of a delivery says of its place; of one without `order`, NOWHERE."""

    order_key: str | None
    order_place: int | None
    waits_for_id: int | None
    holds_order: bool


NOWHERE = Position(None, None, None, False)


class Mended(NamedTuple):
    """What a look at a portion of those that wait has put right, and where the next one goes on;
    None: that was all."""

    delivery_ids: list[int]
    after: Any


def order_key(reference: str) -> str:
    """Return what is the same for all events of one reference, in whichever spelling of a UUID."""
    return digest(same_id(reference))


def lock_name(key: str) -> str:
    """Return the name of the lock of all lines of a key. The trigger knows it too."""
    return f"order {key}"


def may_end(transaction: Transaction, key: str | None) -> bool:
    """Return whether the lines of a delivery's key, which its end changes, are in nobody else's
    hands. Nobody's are until the transaction ends. `key`: None: it stands in no line."""
    return key is None or transaction.try_lock(lock_name(key))


def lock(transaction: Transaction, delivery_ids: Sequence[int]) -> None:
    """Lock the lines in which these deliveries stand, or will when they are queued again."""
    keys = set()
    for key, reference in transaction.look_up(_KEYS_AND_REFERENCES, delivery_ids):
        keys |= {key, order_key(reference) if isinstance(reference, str) else None}
    transaction.lock(lock_name(key) for key in keys if isinstance(key, str))


def lock_of_events(transaction: Transaction, event_ids: Sequence[int]) -> None:
    """Lock the lines in which new deliveries of these events will stand."""
    rows = transaction.look_up(_REFERENCES, event_ids)
    keys = {order_key(reference) for (reference,) in rows if isinstance(reference, str)}
    transaction.lock(map(lock_name, keys))


def insert(transaction: Transaction, entries: Iterable[Entry]) -> list[int | None]:
    """Store deliveries at the ends of their lines, which are locked; return the ids in the order in
    which they were stored. Of one line each refers to the one before, so that is stored first."""
    lines: dict[Line, deque[Entry]] = {}
    for entry in entries:
        lines.setdefault(entry.line, deque()).append(entry)
    last = {line: last_of(transaction, line) for line in lines}
    ids: list[int | None] = []
    for round_ in zip_longest(*lines.values()):
        ranks = [entry for entry in round_ if entry is not None]
        positions = [_behind(last[entry.line], entry.line, entry.holds) for entry in ranks]
        rows = [
            (
                entry.event_id,
                entry.line.action,
                State.PENDING,
                None if position.waits_for_id else entry.now_ms,
                entry.attempts,
                entry.now_ms,
                *position,
            )
            for entry, position in zip(ranks, positions, strict=True)
        ]
        stored = transaction.insert_many(_INSERT, rows)
        for entry, position, id_ in zip(ranks, positions, stored, strict=True):
            if id_ is not None and position.order_place is not None:
                last[entry.line] = LinePlace(id_, position.order_place)
        ids += stored
    return ids


def last_of(transaction: Transaction, line: Line, before: int = _MAX_PLACE) -> LinePlace | None:
    """Return the last of a line, or the last that stands before this place; None: there is none."""
    row = transaction.row(_LAST, order_key=line.key, action=line.action, before=before)
    return LinePlace(*row) if row else None


def stood(transaction: Transaction, delivery_ids: Sequence[int]) -> dict[int, Row]:
    """Return what `position_again` needs to know of these deliveries, by their numbers."""
    return {row[0]: row for row in transaction.look_up(_OF_DELIVERIES, delivery_ids)}


def position_again(transaction: Transaction, stood: Row | None, then: Then | None) -> Position:
    """Return where a delivery that is over stands when it is queued again: at the end of its line.
    One that is dead and holds those behind it has kept its place. `stood`: what is known of it;
    None: it is gone. `then`: as its action has it now; None: that has no `order`."""
    if stood is None:
        return NOWHERE
    _, action, state, key, place, holds, reference = stood
    holds_now = then == "wait"
    if state == State.DEAD and holds and isinstance(key, str) and is_place(place):
        before = last_of(transaction, Line(key, action), place)
        return Position(key, place, before.id if before else None, holds_now)
    if then is None or not isinstance(reference, str) or not reference:
        return NOWHERE
    line = Line(order_key(reference), action)
    return _behind(last_of(transaction, line), line, holds_now)


class Mending:
    """Looks at all that waits when the daemon starts, and then at a portion now and then."""

    def __init__(self, writer: Writer, clock: Clock, wake: Callable[[], None]) -> None:
        """`wake` is called when something has become due."""
        self._writer = writer
        self._clock = clock
        self._wake = wake
        self._after: Any = None  # where the next portion begins; None: with the first one
        self._is_first_walk = True

    async def run(self) -> None:
        """Look, until cancelled."""
        await loops.repeat(self._round, PAUSE_S)

    async def _round(self) -> float:
        look = functools.partial(mend, after=self._after, now_ms=self._clock.now_ms())
        mended = await self._writer.call(look, Step.CLAIMS, alone=True)
        if mended.delivery_ids:
            tell("store.order_mended", count=len(mended.delivery_ids), first=mended.delivery_ids[0])
            self._wake()
        self._after = mended.after
        self._is_first_walk = self._is_first_walk and mended.after is not None
        return 0 if self._is_first_walk else PAUSE_S


def mend(transaction: Transaction, after: Any, now_ms: int) -> Mended:
    """Look at a portion of those that wait, the first one or those `after`, and put right what
    somebody broke by hand: none waits for a delivery that is over, is gone, or does not stand
    before it. What can't be true ends dead."""
    if after is None:
        found = transaction.rows(_FIRST_WAITING, limit=PORTION)
    else:
        found = transaction.rows(_WAITING, after=after, limit=PORTION)
    waiters = [_Waiter(*row) for row in found]
    broken = [(waiter.id, waiter.broken) for waiter in waiters if waiter.broken is not None]
    unsound = [each for each in waiters if not each.is_sound and each.broken is None]
    transaction.lock(lock_name(waiter.line.key) for waiter in unsound)  # before it writes any row
    damage.end_broken(transaction, broken, now_ms)
    mended: set[int] = set()
    for waiter in unsound:
        mended |= _mend(transaction, waiter.id, now_ms)
    return Mended(sorted(mended), waiters[-1].waits_for_id if len(waiters) == PORTION else None)


def _mend(transaction: Transaction, delivery_id: int, now_ms: int) -> set[int]:
    """Put right the line of one that is unsound still, now that it is locked. Return what was
    changed."""
    row = transaction.row(_WAITER, id=delivery_id)
    if row is None or (waiter := _Waiter(*row)).is_sound:
        return set()
    if not is_place(waiter.place):
        last = last_of(transaction, waiter.line)
        place = last.place + 1 if last else 1
        transaction.write(_GIVE_PLACE, id=delivery_id, order_place=place)
    return _straighten(transaction, waiter.line, now_ms)


def _straighten(transaction: Transaction, line: Line, now_ms: int) -> set[int]:
    """Have each of a line wait for the one before it. Return what was changed."""
    changed = set()
    before_id = None
    rows = transaction.rows(_LINE, order_key=line.key, action=line.action, end=_MAX_PLACE)
    for id_, state, due_at_ms, waits_for_id in rows:
        is_first = before_id is None
        if state == State.PENDING and (
            waits_for_id != before_id or (due_at_ms is None) == is_first
        ):
            new_due_at_ms = now_ms if is_first else None
            transaction.write(_PUT, id=id_, due_at_ms=new_due_at_ms, waits_for_id=before_id)
            changed.add(id_)
        before_id = id_
    return changed


class _Waiter(NamedTuple):
    """One that waits. `is_sound`: the one that it waits for stands before it, and will end."""

    id: int
    waits_for_id: int
    key: str
    action: str
    place: int
    broken: str | None
    is_sound: bool

    @property
    def line(self) -> Line:
        return Line(self.key, self.action)


def is_place(value: Any) -> bool:
    """Return whether `value` is a place that premblyd gives."""
    return isinstance(value, int) and 0 < value < _MAX_PLACE


def _behind(last: LinePlace | None, line: Line, holds: bool) -> Position:
    if last is None:
        return Position(line.key, 1, None, holds)
    return Position(line.key, last.place + 1, last.id, holds)


_HAS_ID = Delivery.id == param("id")
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
        HOLDS_ITS_PLACE,
    )
    .order_by(Delivery.order_place.desc())
    .limit(1)
)
_REFERENCES = Lookup(Event.select(Event.reference), Event.id)
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
        Delivery.holds_order,
        Event.reference,
    ).join(Event),
    Delivery.id,
)
_Before = Delivery.alias("before")
_STANDS_BEFORE = (
    (_Before.id == Delivery.waits_for_id)
    & (_Before.order_key == Delivery.order_key)
    & (_Before.action == Delivery.action)
    & (_Before.order_place < Delivery.order_place)
    & (Delivery.order_place < _MAX_PLACE)
)
# It is in the queue, or waits itself; or it is dead and meant to hold those behind it.
_WILL_END = (
    (_Before.state == State.RUNNING)
    | ((_Before.state == State.DEAD) & _Before.holds_order)
    | (
        (_Before.state == State.PENDING)
        & (_Before.due_at_ms.is_null(False) | _Before.waits_for_id.is_null(False))
    )
)
_WAITERS = Delivery.select(
    Delivery.id,
    Delivery.waits_for_id,
    Delivery.order_key,
    Delivery.action,
    Delivery.order_place,
    BROKEN,
    fn.EXISTS(_Before.select(_Before.id).where(_STANDS_BEFORE, _WILL_END)),
)
_IN_PORTIONS = _WAITERS.order_by(Delivery.waits_for_id).limit(param("limit"))
_FIRST_WAITING = Statement(_IN_PORTIONS.where(WAITS_FOR_ANOTHER))
_WAITING = Statement(_IN_PORTIONS.where(Delivery.waits_for_id > param("after"), WAITS_FOR_ANOTHER))
_WAITER = Statement(_WAITERS.where(_HAS_ID, WAITS_FOR_ANOTHER))
_LINE = Statement(
    Delivery.select(Delivery.id, Delivery.state, Delivery.due_at_ms, Delivery.waits_for_id)
    .where(
        Delivery.order_key == param("order_key"),
        Delivery.action == param("action"),
        Delivery.order_place.between(1, param("end")),
        HOLDS_ITS_PLACE,
    )
    .order_by(Delivery.order_place)
)
_GIVE_PLACE = update(Delivery, "order_place", where=_HAS_ID)
_PUT = update(Delivery, "due_at_ms", "waits_for_id", where=_HAS_ID)
