"""Writing the database anew after erasures (VACUUM): what was deleted may still stand in its log,
and where SQLite had moved a row. On SQLite nobody else writes meanwhile, so beside a daemon it runs
only where the last one was quick enough for a database of this size."""

import threading
import time
from pathlib import Path

from peewee import fn

from premblyd.features.keeping.tables import Erasure, ToErase
from premblyd.ground.databases import DatabaseAddress, file_of
from premblyd.ground.errors import PremblydError, TryAgainError
from premblyd.ground.words import size
from premblyd.store.connections import backend, translated
from premblyd.store.engine import Database, Lookup, Sizes, Statement, param, update
from premblyd.store.schema import TABLES
from premblyd.store.sqlite.files import real_path
from premblyd.store.tables import Record

# A quarter of what a webhook waits for the database before it is answered 503: the last part of a
# VACUUM can't be interrupted.
LIMIT_S = 0.5
SMALL_BYTES = 4 << 20  # while it is not known how much is written in a second
LOG_WAIT_MS = 500  # what empties the log waits for who reads, and who writes waits for it
GAP_S = 0.3  # after the erasure: webhooks come first
ROOM = 2  # times the size: for the log, and for a temporary file


def beside_daemons(place: DatabaseAddress, database: Database) -> bool:
    """Run VACUUM if that holds up nobody; return whether no bytes of what was erased remain."""
    its = backend(place)
    most = database.look(lambda transaction: transaction.number(_RATE)) or SMALL_BYTES
    try:
        if not its.is_shared and require_room(its.sizes()) > ROOM * most * LIMIT_S:
            return False
        time.sleep(GAP_S)
        vacuum(place, database, LIMIT_S)
    except PremblydError:
        return False
    return True


def bytes_of(sizes: Sizes) -> int:
    """Return how large the database is, with its log."""
    return (sizes.database_bytes or 0) + (sizes.log_bytes or 0)


def require_room(sizes: Sizes) -> int:
    """Return how many bytes of disk a VACUUM takes while it runs. Raise PremblydError when fewer
    are free."""
    needed = ROOM * bytes_of(sizes)
    if sizes.free_bytes is not None and needed > sizes.free_bytes:
        raise PremblydError(
            f"Nothing was changed: this takes {size(needed)} of disk for a while, and only"
            f" {size(sizes.free_bytes)} are free."
        )
    return needed


def vacuum(place: DatabaseAddress, database: Database, limit_s: float | None = None) -> None:
    """Run VACUUM, and note of which erasures nothing remains. Raise StoreUnavailableError when it
    failed or took longer than `limit_s`, TryAgainError when somebody reads what it leaves."""
    now_ms, count = database.now_ms(), bytes_of(backend(place).sizes())
    ids = [each for (each,) in database.look(lambda transaction: transaction.rows(_ENDED))]
    began_s = time.monotonic()
    is_whole = write_anew(place, database, limit_s)
    rate = round(count / (time.monotonic() - began_s))
    database.transact(lambda transaction: transaction.change(_SET_RATE, vacuum_rate=rate))
    if not is_whole:
        raise TryAgainError("Somebody reads the database: its log still has what was deleted.")
    database.transact(lambda each: each.change_each(_VACUUMED, ids, vacuumed_at_ms=now_ms))


def write_anew(place: DatabaseAddress, database: Database, limit_s: float | None = None) -> bool:
    """Write anew what the tables hold, without what was deleted. Return whether the log too has
    nothing of before. On SQLite nobody else writes meanwhile; with `limit_s` it gives up after
    about so long. Raise StoreUnavailableError when nothing was done."""
    file = file_of(place)
    if file is not None:
        return _write_file_anew(file, database, limit_s)
    names = ", ".join(table._meta.table_name for table in TABLES)
    with translated():
        database.execute_sql(f"VACUUM {names}")  # others go on meanwhile
    return True


def _write_file_anew(file: Path, database: Database, limit_s: float | None) -> bool:
    """Do so in a file. The temporary file is beside it: as large, and as private."""
    connection = database.connection()
    alarm = threading.Timer(limit_s or threading.TIMEOUT_MAX, database.interrupter())
    with translated():
        folder = str(real_path(file).parent).replace("'", "''")
        connection.execute(f"PRAGMA temp_store_directory = '{folder}'")
        connection.execute("PRAGMA temp_store = file")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # which the alarm would end
        alarm.start()
        try:
            connection.execute("VACUUM")
        finally:
            alarm.cancel()
        connection.execute(f"PRAGMA busy_timeout = {LOG_WAIT_MS}")
        connection.execute("PRAGMA wal_checkpoint(passive)")  # nobody waits for most of it
        [(is_busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(truncate)").fetchall()
    return not is_busy


_RATE = Statement(Record.select(Record.vacuum_rate))
_SET_RATE = update(Record, "vacuum_rate", where=Record.id == 1)
_LEFT = ToErase.select(ToErase.id).where(ToErase.erasure_id == Erasure.id)
_ENDED = Statement(
    Erasure.select(Erasure.id).where(Erasure.vacuumed_at_ms.is_null(), ~fn.EXISTS(_LEFT))
)
_VACUUMED = Lookup(Erasure.update(vacuumed_at_ms=param("vacuumed_at_ms")), Erasure.id)
