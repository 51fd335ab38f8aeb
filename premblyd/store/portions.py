"""Reading and writing events in portions, so that no more than a portion is in memory."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


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
