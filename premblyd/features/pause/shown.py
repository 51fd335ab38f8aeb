"""What is said of queued deliveries whose actions are paused."""

from collections.abc import Collection

from premblyd.features.pause import wording
from premblyd.record.events import Told
from premblyd.store.engine import Database


def of_queued(database: Database, actions: Collection[str]) -> Told:
    """Say which of these actions are paused."""
    in_force = wording.in_force(database, database.now_ms())
    paused = [each for action, each in in_force.items() if action in actions]
    sentences = [
        f"{each.action} has been {wording.sentence(each)}. Its queued deliveries wait:"
        f" `premblyd resume {each.action}`."
        for each in paused
    ]
    return Told(values={"paused": paused} if paused else {}, sentences=sentences)


OF_QUEUED = (of_queued,)
