"""How a daemon that shares its database stays in touch with the others, on a connection beside the
writer's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from premblyd.store.engine import Row, Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRead:
    """What the database's clock said between two times on this machine's monotonic clock."""

    now_ms: int
    asked_at_s: float
    answered_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a daemon learns each time that it tells the others it lives."""

    hosts: Sequence[Row]  # what `look` found
    is_known: bool  # False: the others took this daemon for lost, and ended its row
    time: TimeRead


class Beacon(Protocol):
    """A daemon's own connection to the database by which it tells others that it lives, and that
    deliveries are due. It works on the loop, and does not wait for what the writer does.

    All but `close` and `stir` raise StoreUnavailableError when the database can't; the next call
    connects anew.
    """

    async def read_time(self) -> TimeRead:
        """Read the database's clock."""

    async def beat(self, beat: Statement, look: Statement, worker: str) -> Beat:
        """Say by `beat` that `worker` lives (`seen_at_ms` is bound too), and `look` at all."""

    async def announce(self) -> None:
        """Tell the others that deliveries are due."""

    async def wait(self, timeout_s: float) -> bool:
        """Wait until others announce something, or `stir` is called, at most `timeout_s`. Return
        whether others have announced something."""

    def stir(self) -> None:
        """End a wait."""

    async def close(self) -> None: ...
