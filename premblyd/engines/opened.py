"""Opening what is sealed, where rows come from the database: a query that reads a column that may
be sealed finds the key of each row's event too, in the same statement, and who runs it gets the
rows opened. So nobody else need know what is sealed.

Where an event has no key, a value that looks sealed is one whose key is gone, unless its sender has
chosen it so: then the event's headers, of which nobody chooses the beginning, are in clear.

Only whole columns are opened: what a query computes of one, such as its length, is computed of what
is stored. A query that reads one among DISTINCT or grouped rows can't be asked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from peewee import SQL, Context, Field, ModelAlias, ModelSelect, Node, Query, fn
from peewee import FieldAlias as AliasedField

from premblyd.model.columns import Column
from premblyd.model.keeptables import EventKey
from premblyd.model.tables import Delivery, Event
from premblyd.vault import MARK, TEXT_MARK, Cipher, DamagedError, LacksKeyError, Vault
from premblyd.words import DAMAGED, KEY_GONE, Sealed

_Row = tuple[Any, ...]
_IN_CLEAR = "[["  # how headers begin that are not sealed, if there are any


@dataclass(frozen=True, slots=True)
class _Source:
    """A table of which a query reads what may be sealed. Of its columns, where each stands in a
    row, and as what it is bound to its place; and where the key of the row's event stands, behind
    which are the data key's id, the wrapped key, and how the event's headers begin."""

    columns: tuple[tuple[int, str], ...]
    key: int


@dataclass(frozen=True, slots=True)
class Opening:
    """What is to be opened in the rows of a query. `width`: how many values its asker wants."""

    width: int
    sources: tuple[_Source, ...]

    def rows(
        self, rows: Iterable[Sequence[Any]], vault: Vault | None, lacking: Sealed | None = None
    ) -> list[_Row]:
        """Return rows as the asker wants them. What was changed, and can't be opened, is DAMAGED;
        what has lost its key, KEY_GONE; what `vault` has no key for, `lacking`. Raise LacksKeyError
        if that is None."""
        return [self.row(row, vault, lacking) for row in rows]

    def row(self, row: Sequence[Any], vault: Vault | None, lacking: Sealed | None = None) -> _Row:
        """Return one, as `rows` does."""
        values = list(row[: self.width])
        for source in self.sources:
            event_key, data_key, wrapped, headers = row[source.key : source.key + _KEYS]
            marked = [each for each in source.columns if _is_marked(values[each[0]])]
            if marked and wrapped is None and headers != _IN_CLEAR:
                for place, _ in marked:
                    values[place] = KEY_GONE
            elif marked and wrapped is not None:
                cipher: Cipher | Sealed
                try:
                    cipher = _cipher(vault, event_key, data_key, wrapped)
                except LacksKeyError:
                    if lacking is None:
                        raise
                    cipher = lacking
                except DamagedError:
                    cipher = DAMAGED
                for place, column in marked:
                    values[place] = _opened(cipher, column, values[place])
        return tuple(values)


def _cipher(vault: Vault | None, event_key: Any, data_key: Any, wrapped: Any) -> Cipher:
    if vault is None:
        raise LacksKeyError(str(data_key))
    return vault.cipher(event_key, data_key, wrapped)


def _opened(cipher: Cipher | Sealed, column: str, value: Any) -> Any:
    if not isinstance(cipher, Cipher):
        return cipher
    try:
        return cipher.open(column, value)
    except DamagedError:
        return DAMAGED


def _is_marked(value: Any) -> bool:
    if isinstance(value, bytes):
        return value.startswith(MARK)
    return isinstance(value, str) and value.startswith(TEXT_MARK)


class AsStored(Node):
    """A column as it is stored, sealed or not."""

    def __init__(self, column: Field) -> None:
        self._column = column

    def __sql__(self, ctx: Context) -> Any:
        return ctx.sql(self._column)


def with_keys(query: Query) -> tuple[Query, Opening | None]:
    """Return a query that finds the keys too of what it reads, and how its rows are opened; None:
    it reads nothing that may be sealed. Raise TypeError for one that can't be asked."""
    if not isinstance(query, ModelSelect):
        return query, None
    asking: Any = query.clone()
    wanted = list(asking._returning)
    sealed = [(at, node) for at, node in enumerate(wanted) if _is_sealed(node)]
    if not sealed:
        return query, None
    if asking._group_by or asking._distinct is not None or asking._simple_distinct:
        raise TypeError("what may be sealed can't be read of rows that are grouped or DISTINCT")
    columns: dict[Any, list[tuple[int, str]]] = {}
    for at, node in sealed:
        source = node.source if isinstance(node, AliasedField) else node.model
        column = getattr(_table(source), node.name)
        columns.setdefault(source, []).append((at, column.place))
    asking._returning = [*wanted, *(each for source in columns for each in _keys_of(source))]
    sources = [
        _Source(tuple(its), len(wanted) + _KEYS * number)
        for number, its in enumerate(columns.values())
    ]
    return asking, Opening(len(wanted), tuple(sources))


def _is_sealed(node: Any) -> bool:
    column = node.field if isinstance(node, AliasedField) else node
    return isinstance(column, Column) and column.sealed


def _table(source: Any) -> Any:
    return source.model if isinstance(source, ModelAlias) else source


def _keys_of(source: Any) -> tuple[Any, ...]:
    """Return what finds of the event of a row its key, the name of the data key by which its own
    key is wrapped, and that key, both NULL if it has none; and how its headers begin."""
    number = _event_id(source)
    return (
        _of_event(source, "key"),
        *(
            EventKey.select(column).where(EventKey.id == number)
            for column in (EventKey.data_key, EventKey.wrapped)
        ),
        fn.SUBSTR(_of_event(source, "headers"), SQL("1"), SQL(str(len(_IN_CLEAR)))),
    )


_KEYS = 4  # of a row


def _event_id(source: Any) -> Any:
    """Return the id of the event of a row."""
    table = _table(source)
    if table is Event:
        return source.id
    if table is Delivery:
        return source.event
    delivery = Delivery.alias()
    return delivery.select(delivery.event).where(delivery.id == source.delivery)


def _of_event(source: Any, name: str) -> Any:
    """Return a column of the event of a row."""
    if _table(source) is Event:
        return getattr(source, name)
    event = Event.alias()
    return event.select(getattr(event, name)).where(event.id == _event_id(source))
