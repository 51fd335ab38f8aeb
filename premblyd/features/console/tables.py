"""Who is signed in to the console."""

from premblyd.ground.privacy import Shape
from premblyd.store.columns import PERSONAL, PLAIN, SECRET, Kept, Moment, Table, Text
from premblyd.store.engine import param


class ConsoleToken(Table):
    """What signs somebody in to the console: the token of a link, which works once, or the cookie
    of its session. Only its digest is kept."""

    kept = Kept.UNTIL_ENDED
    is_moved = False
    kind = Text(PLAIN)  # link, or session
    digest = Text(SECRET, kept=Kept.UNTIL_ENDED, unique=True)
    actor = Text(PERSONAL, kept=Kept.UNTIL_ENDED, shown=Shape.PLAIN)
    role = Text(PLAIN)  # look, or operate
    remote_ip = Text(PERSONAL, kept=Kept.UNTIL_ENDED, shown=Shape.PLAIN, null=True)  # of a session
    since_ms = Moment(PLAIN)
    until_ms = Moment(PLAIN)


TABLES = (ConsoleToken,)
EXPIRED = (ConsoleToken.delete().where(ConsoleToken.until_ms <= param("now_ms")),)
