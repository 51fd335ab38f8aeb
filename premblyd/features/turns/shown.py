"""What people are told of `once` and `order`."""

from collections.abc import Iterator

from peewee import fn

from premblyd.config.models import Config
from premblyd.features.turns.settings import ONCE, ORDER
from premblyd.ground.words import counted
from premblyd.record import queries
from premblyd.record.told import Item, Situation, Target, largest, trouble
from premblyd.store.engine import Database
from premblyd.store.states import State
from premblyd.store.tables import WAITS_FOR_ANOTHER, Delivery


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
    before = Delivery.alias("before")
    query = (
        Delivery.select(before.action, fn.COUNT(before.id.distinct()))
        .join(before, on=(before.id == Delivery.waits_for_id))
        .where(WAITS_FOR_ANOTHER, before.state == State.DEAD)
        .group_by(before.action)
    )
    return {str(action): count for action, count in queries.tuples(database, query)}


def promises(settings: Config) -> Iterator[str]:
    """Yield the actions that have them."""
    if names := [action.name for action in settings.actions if ONCE.of(action)]:
        yield f"Once for each reference and outcome: {', '.join(names)}."
    if names := [action.name for action in settings.actions if ORDER.of(action)]:
        yield f"In the order of receipt for each reference: {', '.join(names)}."


PROMISES = (promises,)
TROUBLES = (blocked,)
