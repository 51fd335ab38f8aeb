"""Paused actions, in words for people."""

from collections.abc import Collection

from premblyd.config.models import Config
from premblyd.features.pause.pauses import has_lasted_until, is_in_force
from premblyd.features.pause.tables import Pause
from premblyd.ground import times
from premblyd.ground.words import visible
from premblyd.record import queries
from premblyd.record.queries import Row, row_of
from premblyd.record.standing import actions_at_work
from premblyd.store.columns import Seen
from premblyd.store.engine import Database


@row_of(Pause, Seen.LISTS)
class PauseRow(Row):
    """An action that is paused."""


def in_force(database: Database, now_ms: int) -> dict[str, PauseRow]:
    """Return the pauses by their actions, in the order of these."""
    query = Pause.select(*queries.columns(Pause, PauseRow)).where(is_in_force(now_ms))
    found = queries.rows(database, query.order_by(Pause.action), PauseRow)
    return {str(pause.action): pause for pause in found}


def lately(database: Database, since_ms: int) -> set[str]:
    """Return the actions that are paused, or were at that time or later."""
    query = Pause.select(Pause.action).where(has_lasted_until(since_ms))
    return {str(action) for (action,) in queries.tuples(database, query)}


def sentence(pause: PauseRow) -> str:
    """Return what there is to say of a pause, without a full stop."""
    reason = f": {visible(pause.reason)}" if pause.reason else ""
    return without_reason(pause) + reason


def without_reason(pause: PauseRow) -> str:
    """Return the same for who may not read the record: a reason may name somebody."""
    until = "" if pause.until_ms is None else f" until {times.for_people(pause.until_ms)} UTC"
    return f"paused since {times.for_people(pause.since_ms)} UTC{until}"


def sentences(database: Database, now_ms: int) -> dict[str, str]:
    """Return what there is to say of the actions that are paused."""
    return {action: sentence(pause) for action, pause in in_force(database, now_ms).items()}


def without_action(database: Database, settings: Config, paused: Collection[str]) -> list[str]:
    """Return which of these actions neither the configuration has nor that of another host that
    is at work."""
    known = {action.name for action in settings.actions} | actions_at_work(database)
    return [name for name in paused if name not in known]
