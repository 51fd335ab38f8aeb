"""Where copies go."""

from premblyd.store.columns import PLAIN, Kept, Moment, Number, Text
from premblyd.store.table import Table


class BackupFolder(Table):
    """A folder that `record backup` writes to: its newest copy, and what is wrong with it."""

    kept = Kept.PERMANENT
    folder = Text(PLAIN, unique=True)
    tried_at_ms = Moment(PLAIN)
    copied_at_ms = Moment(PLAIN, null=True)
    file = Text(PLAIN, null=True)  # of the newest copy
    file_bytes = Number(PLAIN, null=True)
    error = Text(PLAIN, null=True)  # of the last attempt; NULL: it was made


TABLES = COPIES = (BackupFolder,)
