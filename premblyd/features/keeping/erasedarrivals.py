"""Webhooks about an erased person: stored without personal data, in the transaction that would have
stored them whole."""

from collections.abc import Mapping, Sequence

from premblyd.features.keeping import erased
from premblyd.features.keeping.erased import Erased, Names
from premblyd.features.turns.oncekeys import once_key
from premblyd.queue.digests import Digests
from premblyd.store.engine import BulkInsert, Row, Transaction
from premblyd.store.tables import Delivery, Event


class ErasedArrivals:
    """Stores such events and their deliveries, whose rows would otherwise be inserted so."""

    def __init__(self, events: BulkInsert, deliveries: BulkInsert) -> None:
        self._columns = events.columns
        self._places = tuple(map(events.columns.index, ("reference", "session_id")))
        self._events = BulkInsert(
            Event,
            *events.columns,
            "removed_parts",
            "erasure_id",
            "erased_name",
            unique=events.unique,
        )
        self._deliveries = BulkInsert(Delivery, *deliveries.columns, "confirmed_key")

    def find(
        self, transaction: Transaction, rows: Mapping[str, Row], known: Mapping[str, int | None]
    ) -> dict[str, Erased]:
        """Return by which erasure some of these rows, by their keys, are erased: of a reference or
        a session that was, or where that is `known`."""
        of_reference, of_session = self._places
        names = [Names(row[of_reference], row[of_session], known[key]) for key, row in rows.items()]
        found = zip(rows, erased.find_erased(transaction, names), strict=True)
        return {key: each for key, each in found if each is not None}

    def insert(
        self, transaction: Transaction, rows: Mapping[str, Row], of_erased: Mapping[str, Erased]
    ) -> dict[str, int]:
        """Insert the rows of erased events without what names anybody; return the ids of those
        that are new, by key."""
        emptied = []
        for key, row in rows.items():
            values = dict(zip(self._columns, row, strict=True))
            values = erased.without_person(values, of_erased[key])
            emptied.append(tuple(values[name] for name in self._events.columns))
        ids = transaction.insert_many(self._events, emptied)
        return {key: id_ for key, id_ in zip(rows, ids, strict=True) if id_ is not None}

    def insert_deliveries(
        self, transaction: Transaction, deliveries: Sequence[tuple[Row, list[Row]]]
    ) -> None:
        """Insert the deliveries of erased events, each beside its event's whole row. They stand in
        no line (`order`), as their event has no reference any more. With `once` they run once all
        the same: the key is kept as one that was confirmed."""
        rows = []
        for row, its_deliveries in deliveries:
            key = self._once_key(Digests.of(transaction), row)
            rows += [(*each, key) for each in its_deliveries]
        transaction.write_many(self._deliveries, rows)

    def _once_key(self, digests: Digests, row: Row) -> str | None:
        values = dict(zip(self._columns, row, strict=True))
        if not values["reference"]:
            return None
        return once_key(digests, values["reference"], values["outcome"], values["type"])
