"""The spellings of a reference. A UUID names the same verification with hyphens and with
underscores, in capitals and in small letters: its plain spelling stands for all (payload.plain_id).

`reference_key` has the plain spelling of a row whose `reference` has another, and NULL in all
others, which are nearly all: so no row with a photo is written again because of it. Rows that were
stored by an earlier premblyd, or are by one on another host, get it in portions.
"""

import asyncio
from collections.abc import Collection
from typing import NamedTuple

from peewee import Tuple

from premblyd.engines.engine import Row, Transaction
from premblyd.engines.writer import Step, Writer
from premblyd.model.statements import Lookup, Statement, param
from premblyd.model.tables import Awaited, Event
from premblyd.prembly.payload import plain_id, same_id

PORTION = 2000


class Spelt(NamedTuple):
    """The same look-up by `reference`, and by `reference_key`."""

    by_reference: Lookup
    by_key: Lookup


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


class Place(NamedTuple):
    """Where a walk through all references has come to."""

    reference: str
    id: int


class ReferenceKeys:
    """Gives rows their `reference_key` that have none."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def fill(self, after: Place | None) -> "asyncio.Future[Place | None]":
        """Look at the next PORTION events behind `after`, in the order of their references (which
        an index has, so that no event is read). Return the last one; None: there are no more."""

        def operation(transaction: Transaction) -> Place | None:
            start = after or Place("", 0)
            rows = transaction.rows(
                _EVENTS, after=start.reference, after_id=start.id, limit=PORTION
            )
            _fill(transaction, _KEY_EVENT, rows)
            if after is None:
                _fill(transaction, _KEY_AWAITED, transaction.rows(_AWAITED))
            return Place(*rows[-1]) if len(rows) == PORTION else None

        return self._writer.call(operation, Step.EVIDENCE)


def _fill(transaction: Transaction, statement: Statement, rows: Collection[Row]) -> None:
    for reference, id_ in rows:
        if isinstance(reference, str) and (key := reference_key(reference)):
            transaction.change(statement, id=id_, reference_key=key)


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
