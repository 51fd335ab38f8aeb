"""Finding events whose texts hold something: a number, a name. It reads all that is kept of people,
in portions, so it takes as long as reading the database; it holds nobody up."""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

from peewee import Field

from premblyd.engines.engine import Database, Lookup, Row, Statement, Transaction
from premblyd.engines.portions import by_number, portions
from premblyd.model.columns import PERSONAL, SECRET, columns
from premblyd.model.table import Table
from premblyd.model.tables import Attempt, Delivery, Event, Inquiry
from premblyd.privacy import Shape

SHORTEST = 4  # bytes: anything shorter is in every photo
PORTION = 200  # rows
PORTION_BYTES = 8 << 20  # of their bodies


def find_text(database: Database, text: str) -> Iterator[int]:
    """Yield the numbers of events that hold a text, or of which a delivery or a question does: as
    it is, as JSON writes it, or in base64. A number may come more than once."""
    sought = spellings(text)
    for rows in portions(database, _SIZES, PORTION):
        for ids in of_size(rows, PORTION_BYTES):
            for event_id, *values in database.look(_whole(ids)):
                if _has(values, sought):
                    yield event_id
    for statement in _OF_OTHERS:
        for rows in portions(database, statement, PORTION):
            yield from (row[1] for row in rows if row[1] and _has(row[2:], sought))


def spellings(text: str) -> tuple[bytes, ...]:
    """Return the bytes by which a text may stand in a body: its own, those of JSON's escapes, and
    what base64 makes of it wherever it begins, without the characters that its neighbours share."""
    raw = text.encode("utf-8", "replace")
    escaped = json.dumps(text)[1:-1]
    found = {raw, escaped.encode(), escaped.replace("/", "\\/").encode()}
    found.add(json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace"))
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        whole = encoded[(shift * 8 + 5) // 6 : (shift + len(raw)) * 8 // 6]
        found |= {whole, whole.replace(b"+", b"-").replace(b"/", b"_")}
    return tuple(sorted(found))


def _whole(ids: list[int]) -> Any:
    def read(transaction: Transaction) -> list[Row]:
        return transaction.look_up(_EVENTS, ids)

    return read


def of_size(sizes: Iterable[Row], most_bytes: int) -> Iterator[list[int]]:
    """Split the events that are read at once, of which these are the numbers and the sizes of the
    bodies, so that their bodies find room."""
    ids: list[int] = []
    total = 0
    for event_id, body_bytes in sizes:
        size = body_bytes if isinstance(body_bytes, int) else 0
        if ids and total + size > most_bytes:
            yield ids
            ids, total = [], 0
        ids.append(event_id)
        total += size
    yield ids


def _has(values: Any, sought: tuple[bytes, ...]) -> bool:
    for value in values:
        data = value.encode("utf-8", "replace") if isinstance(value, str) else value
        if data and not isinstance(data, int | float) and any(each in data for each in sought):
            return True
    return False


def _texts(table: type[Table]) -> list[Field]:
    """Return the columns that may hold what is sought: those of people, and what a sender wrote."""
    return [
        column
        for column in columns(table)
        if column.holds in (PERSONAL, SECRET) or column.shown is not Shape.PLAIN
    ]


def _of_others(table: type[Table], event: Field, *joined: type[Table]) -> Statement:
    query = table.select(table.id, event, *_texts(table))
    for other in joined:
        query = query.join(other)
    return by_number(query, table.id)


_SIZES = by_number(Event.select(Event.id, Event.body_bytes), Event.id)
_EVENTS = Lookup(Event.select(Event.id, *_texts(Event)), Event.id)
_OF_OTHERS = (
    _of_others(Delivery, Delivery.event),
    _of_others(Attempt, Delivery.event, Delivery),
    _of_others(Inquiry, Inquiry.event),
)
