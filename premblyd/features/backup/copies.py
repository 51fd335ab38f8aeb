"""The folders with copies, as the record knows them: what was tried last, and the newest copy."""

from typing import Any

from premblyd.features.backup.tables import BackupFolder
from premblyd.features.keeping.keepstatus import CopiesFolder
from premblyd.record import queries
from premblyd.store.engine import Database, Statement, Transaction, insert, param, update

_MEET = insert(BackupFolder, "folder", "tried_at_ms", if_unique=True)
_IS_IT = BackupFolder.folder == param("folder")
_FORGET = Statement(BackupFolder.delete().where(_IS_IT))


def note(database: Database, folder: str, tried_at_ms: int, **about: Any) -> None:
    """Note what became of an attempt: an `error`, or none and the columns about the copy."""
    noting = update(BackupFolder, "tried_at_ms", *about, where=_IS_IT)

    def write(transaction: Transaction) -> None:
        transaction.insert(_MEET, folder=folder, tried_at_ms=tried_at_ms)
        transaction.write(noting, folder=folder, tried_at_ms=tried_at_ms, **about)

    database.transact(write)


def forget(database: Database, folder: str) -> None:
    """Forget a folder: no copy is awaited there any more."""
    database.transact(lambda transaction: transaction.write(_FORGET, folder=folder))


def folders(database: Database) -> list[CopiesFolder]:
    """Return the folders, by name."""
    query = BackupFolder.select(*queries.columns(BackupFolder, CopiesFolder))
    return queries.rows(database, query.order_by(BackupFolder.folder), CopiesFolder)


COPIES = (folders,)
