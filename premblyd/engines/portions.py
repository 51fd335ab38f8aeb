"""Reading a table in portions, so that no snapshot of the database is kept for long, and no more
than a portion is in memory."""

from collections.abc import Iterable, Iterator
from typing import Any

from premblyd.engines.engine import Database, Row, Statement


def portions(
    database: Database, statement: Statement, most: int, **values: Any
) -> Iterator[list[Row]]:
    """Yield what a statement finds, at most so many rows at once, each by a look of its own. It
    finds the rows `after` a number, in the order of that, at most `limit`; a row begins with it."""
    found = values | {"after": 0, "limit": most}
    while rows := database.look(lambda transaction: transaction.rows(statement, **found)):
        yield rows
        found["after"] = rows[-1][0]


def of_size(sizes: Iterable[Row], most_bytes: int) -> Iterator[list[int]]:
    """Split the events that are read at once, of which these are the numbers and the sizes of the
    bodies, so that their bodies find room."""
    ids: list[int] = []
    total = 0
    for event_id, body_bytes in sizes:
        if ids and total + body_bytes > most_bytes:
            yield ids
            ids, total = [], 0
        ids.append(event_id)
        total += body_bytes
    yield ids
