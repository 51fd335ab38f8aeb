"""Which worker processes accept nothing."""

from premblyd.store.columns import PLAIN, Kept, Moment, Text
from premblyd.store.table import Table


class Halt(Table):
    """An action with worker processes on a host that accept nothing now."""

    kept = Kept.UNTIL_ENDED
    is_moved = False
    worker = Text(PLAIN)  # of the daemon
    action = Text(PLAIN)
    since_ms = Moment(PLAIN)
    reason = Text(PLAIN)

    unique = ("worker, action",)


TABLES = (Halt,)
