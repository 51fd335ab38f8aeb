"""Reading a table in portions, so that no snapshot of the database is kept for long, and no more
than a portion is in memory."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from premblyd.engines.engine import Database, Row, Statement

T = TypeVar("T")


def portions(
    database: Database, statement: Statement, most: int, **values: Any
) -> Iterator[list[Row]]:
    """Yield what a statement finds, at most so many rows at once, each by a look of its own. It
    finds the rows `after` a number, in the order of that, at most `limit`; a row begins with it."""
    found = values | {"after": 0, "limit": most}
    while rows := database.look(lambda transaction: transaction.rows(statement, **found)):
        yield rows
        found["after"] = rows[-1][0]


def of_size(sizes: Iterable[tuple[T, int]], most_bytes: int) -> Iterator[list[T]]:
    """Split the events that are read or written at once, each with the size of its body, so that
    their bodies find room."""
    portion: list[T] = []
    total = 0
    for event, body_bytes in sizes:
        if portion and total + body_bytes > most_bytes:
            yield portion
            portion, total = [], 0
        portion.append(event)
        total += body_bytes
    yield portion
