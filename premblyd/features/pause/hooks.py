"""What a pause does in a claim."""

from typing import Any

from peewee import Node, fn

from premblyd.features.pause.pauses import is_in_force
from premblyd.features.pause.tables import Pause
from premblyd.queue.due import NEVER_MS


def _paused_until(action: Node, now_ms: Node) -> Any:
    ends_at_ms = fn.COALESCE(Pause.until_ms, NEVER_MS)
    return Pause.select(ends_at_ms).where(Pause.action == action, is_in_force(now_ms))


HELD_UNTIL = (_paused_until,)
