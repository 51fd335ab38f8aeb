"""What people are told of `once` and `order`."""

from collections.abc import Iterator, Mapping
from typing import Any

from peewee import fn

from premblyd.features.turns.tables import Ordered
from premblyd.ground.words import counted
from premblyd.record import queries
from premblyd.record.told import Item, Situation, Target, largest, trouble
from premblyd.store.engine import Database
from premblyd.store.states import State
from premblyd.store.tables import Delivery


@trouble()
def blocked(situation: Situation) -> Iterator[Item]:
    """Yield references of which nothing runs, as a dead delivery is before them (`order`)."""
    for action, count in largest(_blocking(situation.database)):
        yield Item(
            text=f"{counted(count, 'dead delivery', 'dead deliveries')} of {action}"
            f" {'blocks' if count == 1 else 'block'} later deliveries for the same reference.",
            remedy=f"Fix the cause, then `premblyd replay --dead --action {action}`. Or cancel"
            f" them, so that the others run: `premblyd cancel --dead --action {action}`, or one by"
            " `--delivery ID`.",
            command=f"premblyd deliveries --blocked --action {action}",
            target=Target(page="deliveries", state="dead", action=action),
            count=count,
        )


def _blocking(database: Database) -> dict[str, int]:
    """Return by action how many dead deliveries others wait for (`order`): by the index of those
    that wait."""
    query = (
        Ordered.select(Ordered.action, fn.COUNT(Delivery.id.distinct()))
        .join(Delivery, on=(Delivery.id == Ordered.waits_for_id))
        .where(Ordered.waits_for_id.is_null(False), fn.COALESCE(Delivery.state, "") == State.DEAD)
        .group_by(Ordered.action)
    )
    return {str(action): count for action, count in queries.tuples(database, query)}


def of_delivery(columns: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a delivery waits, and who waits for it."""
    if columns["waits_for_id"] is not None:
        yield f"waits for delivery {columns['waits_for_id']}"
    if columns["state"] == State.DEAD and columns["blocks_order"]:
        yield "later ones wait until it is replayed and succeeds, or is cancelled"


OF_DELIVERY = (of_delivery,)
TROUBLES = (blocked,)
