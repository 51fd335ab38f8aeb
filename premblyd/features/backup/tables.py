"""Where copies go."""

from premblyd.store.columns import PLAIN, Kept, Moment, Table, Text


class BackupFolder(Table):
    """A folder that `record backup` writes to: when its newest copy was made, and what is wrong."""

    kept = Kept.PERMANENT
    folder = Text(PLAIN, unique=True)
    copied_at_ms = Moment(PLAIN, null=True)
    error = Text(PLAIN, null=True)  # of the last attempt; NULL: it was made


TABLES = COPIES = (BackupFolder,)
