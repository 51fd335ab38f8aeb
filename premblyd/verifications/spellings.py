"""The spellings of a reference. A UUID names the same verification with hyphens and with
underscores, in capitals and in small letters: its plain spelling stands for all
(payload.plain_id).

`reference_key` has the plain spelling of a row whose `reference` has another, and NULL in all
others, which are nearly all: so no row with a photo is written again because of it. Rows that were
stored by an earlier premblyd, or are by one on another host, get it in portions: `Respelling`.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Self

from peewee import Query, Tuple

from premblyd import loops
from premblyd.engines.engine import Lookup, Row, Statement, Transaction, param
from premblyd.engines.writer import Step, Writer
from premblyd.model.tables import Awaited, Event
from premblyd.prembly.payload import plain_id, same_id

PORTION = 500  # references that are looked at in a transaction, by an index
MOST_WRITTEN = 50  # rows: webhooks wait for as long as it takes
PAUSE_S = 0.2  # between two portions: webhooks and hooks come first
REST_S = 6 * 3600.0  # daemons of the version before may go on storing, on other hosts


class Spelt(NamedTuple):
    """The same look-up by `reference`, and by `reference_key`."""

    by_reference: Lookup
    by_key: Lookup

    @classmethod
    def of(cls, query: Query, table: type[Awaited | Event]) -> Self:
        """Return the look-up of a query of `table`."""
        return cls(Lookup(query, table.reference), Lookup(query.clone(), table.reference_key))


def reference_key(reference: str | None) -> str | None:
    """Return what a row with this reference has as its key."""
    plain = plain_id(reference) if reference else None
    return None if plain == reference else plain


def look_up(transaction: Transaction, spelt: Spelt, references: Collection[str]) -> list[Row]:
    """Return the rows of these references, however each is spelt there. (A row that has no key yet
    is found by its own spelling.)"""
    plain = {plain_id(reference) for reference in references}
    rows = transaction.look_up(spelt.by_reference, sorted(plain.union(references)))
    if all(same_id(reference) == reference for reference in plain):  # no UUID
        return rows
    found = set(rows)
    return rows + [
        row for row in transaction.look_up(spelt.by_key, sorted(plain)) if row not in found
    ]


class Cursor(NamedTuple):
    """Where a walk through all references has come to."""

    reference: str
    id: int


class Respelling:
    """Gives rows their `reference_key` that have none, beside other work: looks at all references
    when the daemon starts, and again now and then."""

    def __init__(self, writer: Writer, *, is_leader: Callable[[], bool] = lambda: True) -> None:
        """`is_leader`: whether this daemon is the one that does it, where several share a
        database."""
        self._writer = writer
        self._is_leader = is_leader
        self._after: Cursor | None = None

    async def run(self) -> None:
        """Look, until cancelled."""
        await loops.repeat(self.look, PAUSE_S)

    async def look(self) -> float:
        """Look at the next portion; return the seconds to wait for the one behind it."""
        if not self._is_leader():
            return REST_S
        self._after = await self.fill(self._after)
        return REST_S if self._after is None else PAUSE_S

    def fill(self, after: Cursor | None) -> "asyncio.Future[Cursor | None]":
        """Look at the next events behind `after`, in the order of their references (which an index
        has, so that no event is read), until MOST_WRITTEN of them have got a key. Return the last
        one; None: there are no more."""

        def operation(transaction: Transaction) -> Cursor | None:
            start = after or Cursor("", 0)
            rows = transaction.rows(
                _EVENTS, after=start.reference, after_id=start.id, limit=PORTION
            )
            if after is None:
                _fill(transaction, _KEY_AWAITED, transaction.rows(_AWAITED))
            done = _fill(transaction, _KEY_EVENT, rows, most=MOST_WRITTEN)
            return Cursor(*rows[done - 1]) if done == PORTION or done < len(rows) else None

        return self._writer.call(operation, Step.EVIDENCE)


def _fill(
    transaction: Transaction, statement: Statement, rows: Sequence[Row], most: int | None = None
) -> int:
    """Give rows their key, at most so many. Return how many of the rows were looked at."""
    written = 0
    for number, (reference, id_) in enumerate(rows):
        if isinstance(reference, str) and (key := reference_key(reference)):
            if written == most:
                return number
            written += transaction.change(statement, id=id_, reference_key=key)
    return len(rows)


_EVENTS = Statement(
    Event.select(Event.reference, Event.id)
    .where(
        Event.reference.is_null(False),
        Tuple(Event.reference, Event.id) > Tuple(param("after"), param("after_id")),
    )
    .order_by(Event.reference, Event.id)
    .limit(param("limit"))
)
# Few are awaited at once.
_AWAITED = Statement(
    Awaited.select(Awaited.reference, Awaited.id).where(
        Awaited.due_at_ms.is_null(False), Awaited.reference_key.is_null()
    )
)
_KEY_EVENT = Statement(
    Event.update(reference_key=param("reference_key")).where(
        Event.id == param("id"), Event.reference_key.is_null()
    )
)
_KEY_AWAITED = Statement(
    Awaited.update(reference_key=param("reference_key")).where(Awaited.id == param("id"))
)
