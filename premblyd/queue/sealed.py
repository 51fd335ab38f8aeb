"""What is stored sealed, in the transaction that stores it: events that arrive, and what hooks and
Prembly say of them."""

from collections.abc import Iterable

from premblyd.engines.engine import BulkInsert, Row, Transaction
from premblyd.model.tables import Event
from premblyd.seal import eventkeys
from premblyd.seal.eventkeys import Sealing
from premblyd.vault import DamagedError, LacksKeyError
from premblyd.verifications.digests import Digests


class SealedArrivals:
    """Stores events sealed, whose rows would otherwise be inserted so."""

    def __init__(self, events: BulkInsert) -> None:
        self._key_place = events.columns.index("key")
        self._session_place = events.columns.index("session_id")
        self._sealing = Sealing(events)
        self._events = BulkInsert(Event, *events.columns, "session_digest", unique=events.unique)

    def insert(
        self, transaction: Transaction, portions: Iterable[list[Row]], digests: Digests
    ) -> dict[str, int]:
        """Insert events with their keys; return the ids of those that are new, by key."""
        ids: dict[str, int] = {}
        for rows in portions:
            keys = [row[self._key_place] for row in rows]
            sealed = [self._sealing.seal(transaction, row) for row in rows]
            full = [
                (*row, self._digest(plain, digests))
                for plain, (row, _) in zip(rows, sealed, strict=True)
            ]
            found = zip(keys, transaction.insert_many(self._events, full), strict=True)
            new = {key: id_ for key, id_ in found if id_ is not None}
            wrapped = zip(keys, sealed, strict=True)
            eventkeys.add(transaction, {new[key]: each for key, (_, each) in wrapped if key in new})
            ids |= new
        return ids

    def _digest(self, row: Row, digests: Digests) -> str | None:
        session_id = row[self._session_place]
        return digests.of_session(session_id) if session_id else None


def sealed_output(transaction: Transaction, delivery_id: int, output: str | None) -> str | None:
    """Return what a hook has printed as it is stored. What can't be sealed any more is not kept: a
    report must not fail, else the hook would run again."""
    if output is None or transaction.vault is None:
        return output
    try:
        cipher = eventkeys.of_delivery(transaction, delivery_id)
    except (LacksKeyError, DamagedError):
        return None
    if cipher is None:  # of an event that is being erased nothing is stored: see erased.unless
        return output
    return str(cipher.seal(eventkeys.OUTPUT, output))


def sealed_facts(transaction: Transaction, delivery_id: int, facts: str) -> str | None:
    """Return what Prembly has confirmed as it is stored. Raise LacksKeyError, DamagedError."""
    if transaction.vault is None:
        return facts
    cipher = eventkeys.of_delivery(transaction, delivery_id)
    if cipher is None:
        return facts
    return str(cipher.seal(eventkeys.CONFIRMED_FACTS, facts))
