"""Which actions are paused."""

from premblyd.ground.privacy import Shape
from premblyd.store.columns import PERSONAL, PLAIN, Kept, Moment, Table, Text


class Pause(Table):
    """An action with hooks that no host starts, as an operator has paused it."""

    kept = Kept.UNTIL_ENDED
    noted_in = "reason"
    action = Text(PLAIN, unique=True)
    since_ms = Moment(PLAIN)
    until_ms = Moment(PLAIN, null=True)  # NULL: until somebody resumes it; 0: they did
    reason = Text(PERSONAL, kept=Kept.UNTIL_ENDED, shown=Shape.PLAIN, null=True)


TABLES = (Pause,)
