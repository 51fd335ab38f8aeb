"""Paused actions, in words for people."""

from collections.abc import Collection

from premblyd.config.models import Config
from premblyd.config.values import When
from premblyd.features.pause.pauses import has_lasted_until, is_in_force
from premblyd.features.pause.tables import Pause
from premblyd.ground import times
from premblyd.ground.errors import PremblydError
from premblyd.ground.words import visible
from premblyd.record import queries
from premblyd.record.queries import PauseRow
from premblyd.record.standing import actions_at_work
from premblyd.store.engine import Database
from premblyd.store.tables import Delivery

MAX_REASON = 200  # characters: it is read beside the action, by everybody who may read the record


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


def require_known(database: Database, settings: Config, action: str) -> None:
    """Raise PremblydError for an action that no configuration has, and for which nothing waits: it
    is mistyped, and the one that was meant would go on."""
    own = [each.name for each in settings.actions]
    if action in own or action in actions_at_work(database):
        return
    query = Delivery.select(Delivery.id).where(
        Delivery.action == action, Delivery.due_at_ms.is_null(False)
    )
    if queries.value(database, query.limit(1)) is None:
        has = ", ".join(own) or "none"
        raise PremblydError(f"There is no action {visible(action)}; the configuration has {has}.")


def read_until(text: str) -> When:
    """Read when a pause ends: a time such as 2026-01-31T06:00, or so long from now: 30m, 2h, 7d.
    Raise ValueError for anything else."""
    when = When.read(text)
    return when if when.ago_ms is None else When(text, ago_ms=-when.ago_ms)


def until_ms(until: When | None, now_ms: int) -> int | None:
    """Return when a pause ends that begins now. Raise PremblydError when that is past."""
    if until is None:
        return None
    at_ms = until.by(now_ms)
    if at_ms <= now_ms:
        raise PremblydError(f"{until} is in the past: a pause must end later.")
    return at_ms


def checked_reason(text: str | None) -> str | None:
    """Return a reason in one line. Raise PremblydError for one that is too long."""
    reason = " ".join("".join(c for c in text or "" if c.isprintable() or c.isspace()).split())
    if len(reason) > MAX_REASON:
        raise PremblydError(
            f"A reason has at most {MAX_REASON} characters, and should name nobody."
        )
    return reason or None
