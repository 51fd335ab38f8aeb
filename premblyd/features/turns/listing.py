"""What `once` adds to lists: for what the hook of a delivery runs once."""

from collections.abc import Collection
from typing import Any

from premblyd.features.turns.tables import OnceRun
from premblyd.ground.privacy import Shape
from premblyd.record import queries
from premblyd.record.listing import AddedColumn
from premblyd.store.engine import Database


def _once_keys(database: Database, ids: Collection[int]) -> dict[int, Any]:
    query = OnceRun.select(OnceRun.delivery, OnceRun.once_key)
    return dict(queries.tuples(database, query.where(OnceRun.delivery.in_(list(ids)))))


COLUMNS = (AddedColumn("once_key", _once_keys, of_deliveries=True, shown=Shape.MASKED),)
