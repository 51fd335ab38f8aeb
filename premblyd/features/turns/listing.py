"""What `order` and `once` add to the list of deliveries."""

from collections.abc import Callable, Collection
from typing import Any

from premblyd.features.turns.tables import HELD_BY, Ordered
from premblyd.record import queries
from premblyd.record.listing import AddedColumn, AddedFilter, flag, where
from premblyd.store.engine import Database
from premblyd.store.tables import Delivery


def _of_lines(column: Any, kind: type) -> Callable[[Database, Collection[int]], dict[int, Any]]:
    query = Ordered.select(Ordered.delivery, column).where(column.is_null(False))

    def find(database: Database, delivery_ids: Collection[int]) -> dict[int, Any]:
        found = queries.tuples(database, query.where(Ordered.delivery.in_(list(delivery_ids))))
        return {delivery_id: kind(value) for delivery_id, value in found}

    return find


def _why(delivery: Any) -> str | None:
    number = delivery.waits_for_id
    return None if number is None else f"waits for delivery {number}"


COLUMNS = (
    AddedColumn("waits_for_id", _of_lines(Ordered.waits_for_id, int), of_deliveries=True),
    AddedColumn(
        "blocks_order", _of_lines(Ordered.blocks, bool), otherwise=False, of_deliveries=True
    ),
)
INSTEAD = (("last_error", _why),)
FILTERS = (
    AddedFilter(
        "DeliveryFilter",
        "is_blocked",
        flag(
            where(lambda _: Delivery.held_by == HELD_BY, index="delivery_held"),
            "",
            "Only those that wait for another (order).",
        ),
    ),
)
