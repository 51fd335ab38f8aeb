"""The keys of events in their table, and what is sealed by them.

A value is taken for sealed only where its event has a key here: a sender may have chosen bytes that
look sealed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from peewee import JOIN, Model, Query

from premblyd.engines.engine import BulkInsert, Lookup, Row, Statement, Transaction, param
from premblyd.model.columns import Column, columns
from premblyd.model.keeptables import EventKey
from premblyd.model.tables import Attempt, Delivery, Event
from premblyd.vault import Cipher, LacksKeyError, Wrapped

KEY_COLUMNS = (EventKey.data_key, EventKey.wrapped)  # of who reads them beside an event's columns


def sealed_columns(table: type[Model]) -> tuple[Column, ...]:
    """Return the columns of a table that are sealed."""
    return tuple(column for column in columns(table) if column.sealed)


def with_keys(query: Any) -> Query:
    """Return a query on `event` that finds KEY_COLUMNS too: None where an event has no key."""
    joined: Query = query.join_from(Event, EventKey, JOIN.LEFT_OUTER, on=EventKey.id == Event.id)
    return joined


def cipher_of(
    transaction: Transaction, event_key: str, data_key: Any, wrapped: Any
) -> Cipher | None:
    """Return what opens an event whose KEY_COLUMNS were read; None: it is not sealed. Raise
    LacksKeyError when the data key is not here, DamagedError when somebody changed the row."""
    if data_key is None:
        return None
    if transaction.vault is None:
        raise LacksKeyError(str(data_key))
    return transaction.vault.cipher(event_key, data_key, wrapped)


def ciphers(transaction: Transaction, event_ids: Iterable[int]) -> dict[int, Cipher]:
    """Return what opens those of these events that are sealed. Raise as `cipher_of`."""
    rows = transaction.look_up(_KEYS, sorted(set(event_ids)))
    found = ((number, cipher_of(transaction, *its)) for number, *its in rows)
    return {number: cipher for number, cipher in found if cipher is not None}


def of_delivery(transaction: Transaction, delivery_id: int) -> Cipher | None:
    """Return what seals and opens what becomes of a delivery; None: its event is not sealed. Raise
    as `cipher_of`."""
    row = transaction.row(_OF_DELIVERY, id=delivery_id)
    return cipher_of(transaction, *row) if row else None


def opened(cipher: Cipher | None, fields: Sequence[Column], values: Iterable[Any]) -> Iterable[Any]:
    """Return the values of these columns of one event, opened. Raise DamagedError."""
    if cipher is None:
        return values
    return (
        cipher.open(column.place, value) if column.sealed else value
        for column, value in zip(fields, values, strict=True)
    )


class Sealing:
    """Seals rows that are inserted, each by a new key."""

    def __init__(self, inserting: BulkInsert) -> None:
        fields = inserting.model._meta.columns
        self._key_place = inserting.columns.index("key")
        self._places = [
            (place, fields[name].place)
            for place, name in enumerate(inserting.columns)
            if fields[name].sealed
        ]

    def seal(self, transaction: Transaction, row: Row) -> tuple[Row, Wrapped]:
        """Return the row sealed, and its key. Raise LookupError when nothing seals here."""
        if transaction.vault is None:
            raise LookupError("there is no vault")
        cipher, wrapped = transaction.vault.new_cipher(row[self._key_place])
        values = list(row)
        for place, words in self._places:
            values[place] = cipher.seal(words, values[place])
        return tuple(values), wrapped


def seals(transaction: Transaction) -> bool:
    """Return whether what is stored is sealed."""
    return transaction.vault is not None and transaction.vault.seals_with is not None


def add(transaction: Transaction, keys: Mapping[int, Wrapped]) -> None:
    """Store the keys of events, by the events' ids."""
    transaction.write_many(_ADD, [(number, *wrapped) for number, wrapped in keys.items()])


def destroy(transaction: Transaction, event_ids: Collection[int]) -> int:
    """Destroy the keys of these events: what was sealed by them can't be opened any more, nor can
    any copy of it. Return how many these were."""
    return transaction.change_each(_DESTROY, sorted(event_ids))


_KEYS = Lookup(
    EventKey.select(EventKey.id, Event.key, *KEY_COLUMNS).join_from(
        EventKey, Event, on=Event.id == EventKey.id
    ),
    EventKey.id,
)
_OF_DELIVERY = Statement(
    Delivery.select(Event.key, *KEY_COLUMNS)
    .join(Event)
    .join(EventKey, on=EventKey.id == Event.id)
    .where(Delivery.id == param("id"))
)
_ADD = BulkInsert(EventKey, "id", "data_key", "wrapped")
_DESTROY = Lookup(EventKey.delete(), EventKey.id)
OUTPUT = Attempt.output.place
CONFIRMED_FACTS = Delivery.confirmed_facts.place
