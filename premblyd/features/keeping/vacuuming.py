"""Writing the database anew after erasures (VACUUM): what was deleted may still stand in its log,
and where SQLite had moved a row. On SQLite nobody else writes meanwhile, so beside a daemon it runs
only where the last one was quick enough for a database of this size."""

import time

from peewee import fn

from premblyd.features.keeping.tables import Erasure, ToErase
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.errors import PremblydError, TryAgainError
from premblyd.ground.words import size
from premblyd.store.connections import backend
from premblyd.store.engine import Database, Lookup, Sizes, Statement, param, update
from premblyd.store.tables import Record

# A quarter of what a webhook waits for the database before it is answered 503: the last part of a
# VACUUM can't be interrupted.
LIMIT_S = 0.5
SMALL_BYTES = 4 << 20  # while it is not known how much is written in a second
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
    is_whole = database.vacuum(limit_s)
    rate = round(count / (time.monotonic() - began_s))
    database.transact(lambda transaction: transaction.change(_SET_RATE, vacuum_rate=rate))
    if not is_whole:
        raise TryAgainError("Somebody reads the database: its log still has what was deleted.")
    database.transact(lambda each: each.change_each(_VACUUMED, ids, vacuumed_at_ms=now_ms))


_RATE = Statement(Record.select(Record.vacuum_rate))
_SET_RATE = update(Record, "vacuum_rate", where=Record.id == 1)
_LEFT = ToErase.select(ToErase.id).where(ToErase.erasure_id == Erasure.id)
_ENDED = Statement(
    Erasure.select(Erasure.id).where(Erasure.vacuumed_at_ms.is_null(), ~fn.EXISTS(_LEFT))
)
_VACUUMED = Lookup(Erasure.update(vacuumed_at_ms=param("vacuumed_at_ms")), Erasure.id)
