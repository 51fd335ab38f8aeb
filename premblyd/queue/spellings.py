"""The spellings of a reference. A UUID with hyphens or underscores, in capitals or small letters,
names the same verification: its plain spelling stands for all (payload.plain_id).

`reference_key` has the plain spelling of a row whose `reference` has another, and NULL in all
others, which are nearly all.
"""

from collections.abc import Collection
from typing import Any, NamedTuple, Self

from peewee import Query

from premblyd.prembly.payload import plain_id, same_id
from premblyd.store.engine import Lookup, Row, Transaction


class Spelt(NamedTuple):
    """The same look-up by `reference`, and by `reference_key`."""

    by_reference: Lookup
    by_key: Lookup

    @classmethod
    def of(cls, query: Query, table: Any) -> Self:
        """Return the look-up of a query of `table`, which has both columns."""
        return cls(Lookup(query, table.reference), Lookup(query.clone(), table.reference_key))


def reference_key(reference: str | None) -> str | None:
    """Return what a row with this reference has as its key."""
    plain = plain_id(reference) if reference else None
    return None if plain == reference else plain


def look_up(transaction: Transaction, spelt: Spelt, references: Collection[str]) -> list[Row]:
    """Return the rows of these references, however each is spelt there."""
    plain = {plain_id(reference) for reference in references}
    rows = transaction.look_up(spelt.by_reference, sorted(plain.union(references)))
    if all(same_id(reference) == reference for reference in plain):  # no UUID
        return rows
    found = set(rows)
    return rows + [
        row for row in transaction.look_up(spelt.by_key, sorted(plain)) if row not in found
    ]
