"""The newest copy in each folder, for what `keepstatus` says."""

from premblyd.features.backup.tables import BackupFolder
from premblyd.features.keeping.keepstatus import CopiesFolder
from premblyd.record import queries
from premblyd.store.engine import Database


def folders(database: Database) -> list[CopiesFolder]:
    """Return the folders, by name."""
    query = BackupFolder.select(*queries.columns(BackupFolder, CopiesFolder))
    return queries.rows(database, query.order_by(BackupFolder.folder), CopiesFolder)


COPIES = (folders,)
