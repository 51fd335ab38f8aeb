"""The processes that the daemon itself started and waits for, and by what they are known."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

MARK = ("PREMBLY_WORKER", "PREMBLY_EVENT_KEY", "PREMBLY_DELIVERY", "PREMBLY_ATTEMPT")


class Mark(NamedTuple):
    """By which a hook's process, and what it starts, is told from all others: what its environment
    has for the names in `MARK`, where it has them."""

    worker: str  # another daemon may run a hook for the same event, delivery and attempt
    event_key: str = ""
    delivery: str = ""
    attempt: str = ""


def mark_of(environment: Mapping[str, str]) -> Mark | None:
    """Return the mark of a process with this environment; None: it is no hook's."""
    mark = Mark(*(environment.get(name, "") for name in MARK))
    return mark if mark.worker else None


class Children:
    """The numbers of these processes, so that `Strays` neither kills nor reaps them, and their
    marks, so that it spares what they have started.

    Any thread may start a process. Both are counted, not kept in a set: once a process was
    waited for, the kernel may give its number to another before the first is forgotten here.
    """

    def __init__(self) -> None:
        self._counts: Counter[int | Mark | None] = Counter()
        self._changing = threading.Lock()

    @contextlib.contextmanager
    def known(self, child: int | Mark | None) -> Iterator[None]:
        """Know a process for as long as this is entered: by its number from its start until its
        end, by its mark from before its start."""
        with self._changing:
            self._counts[child] += 1
        try:
            yield
        finally:
            with self._changing:
                self._counts[child] -= 1
                if not self._counts[child]:
                    del self._counts[child]

    def __contains__(self, child: int | Mark) -> bool:
        return child in self._counts
