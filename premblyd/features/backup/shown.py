"""The trouble of copies: there is no new one."""

import shlex
from collections.abc import Iterator

from premblyd.features.backup.tables import BackupFolder
from premblyd.ground import times
from premblyd.ground.times import DAY_MS
from premblyd.record import queries
from premblyd.record.told import Item, Situation, trouble

COPY_AGE_MS = 3 * DAY_MS


@trouble()
def backup(situation: Situation) -> Iterator[Item]:
    """Yield the folders where the last backup failed, or that have had no new copy for days."""
    row = BackupFolder
    is_old = row.copied_at_ms <= situation.now_ms - COPY_AGE_MS
    query = row.select(row.folder, row.copied_at_ms, row.error).order_by(row.folder)
    query = query.where(row.error.is_null(False) | is_old)
    for folder, at_ms, error in queries.tuples(situation.database, query):
        of = f"of {times.for_people(at_ms)} UTC" if at_ms else "missing"
        failed = f" The last backup failed: {error}" if error else ""
        yield Item(
            text=f"The newest copy in {folder} is {of}.{failed}",
            remedy="`premblyd record backup`, or premblyd-backup.timer, makes a new one. With"
            " --forget, none is expected there any more.",
            command=f"sudo premblyd record backup {shlex.quote(folder)}",
            about=folder,
        )


TROUBLES = (backup,)
