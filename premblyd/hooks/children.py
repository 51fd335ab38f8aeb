"""The processes that the daemon itself started and waits for."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator


class Children:
    """Knows them by number, so that nobody else ends them or takes their exit status.

    Any thread may start one. Its number is counted, not only noted: once it was waited for, the
    next process may have that number before the first is forgotten.
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._changing = threading.Lock()

    @contextlib.contextmanager
    def known(self, pid: int) -> Iterator[None]:
        """Know process `pid` for as long as this is entered: from its start until its end."""
        with self._changing:
            self._counts[pid] += 1
        try:
            yield
        finally:
            with self._changing:
                self._counts[pid] -= 1
                if not self._counts[pid]:
                    del self._counts[pid]

    def __contains__(self, pid: int) -> bool:
        return pid in self._counts
