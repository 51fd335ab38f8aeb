"""The processes that the daemon itself started and waits for."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator


class Children:
    """The numbers of these processes, so that `Strays` neither kills nor reaps them.

    Any thread may start a process. Numbers are counted, not kept in a set: once a process was
    waited for, the kernel may give its number to another before the first is forgotten here.
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
