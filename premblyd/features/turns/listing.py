"""What `order` adds to the list of deliveries."""

from collections.abc import Collection
from typing import Any

from peewee import fn

from premblyd.features.turns.tables import HELD_BY, Ordered
from premblyd.record import queries
from premblyd.record.listing import AddedColumn, AddedFilter, flag, where
from premblyd.store.engine import Database
from premblyd.store.tables import Delivery


def _waits_for(database: Database, delivery_ids: Collection[int]) -> dict[int, int]:
    """Return which of these deliveries wait, each with the one that must end before."""
    query = (
        Ordered.select(Ordered.delivery, Ordered.waits_for_id)
        .join(Delivery)
        .where(
            Ordered.delivery.in_(list(delivery_ids)), fn.COALESCE(Delivery.held_by, "") == HELD_BY
        )
    )
    return dict(queries.tuples(database, query))


def _blocks(database: Database, delivery_ids: Collection[int]) -> dict[int, bool]:
    """Return behind which of these deliveries others wait when it is dead."""
    query = Ordered.select(Ordered.delivery).where(
        Ordered.delivery.in_(list(delivery_ids)), Ordered.blocks
    )
    return {delivery_id: True for (delivery_id,) in queries.tuples(database, query)}


def _why(delivery: Any) -> str | None:
    number = delivery.waits_for_id
    return None if number is None else f"waits for delivery {number}"


COLUMNS = (
    AddedColumn(name="waits_for_id", find=_waits_for, by="delivery_id"),
    AddedColumn(name="blocks_order", find=_blocks, by="delivery_id", otherwise=False),
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
