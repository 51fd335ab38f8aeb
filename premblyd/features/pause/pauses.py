"""Operators pause an action, and resume it; both are recorded. Until the pause ends no host claims
the action's deliveries, which use up no attempts and keep their places."""

from typing import Any

from premblyd.config.models import Config
from premblyd.config.values import When
from premblyd.features.pause.tables import Pause
from premblyd.ground import times
from premblyd.ground.errors import PremblydError
from premblyd.ground.words import visible
from premblyd.record import queries
from premblyd.record.operating import Change, write_down
from premblyd.record.standing import actions_at_work
from premblyd.store.engine import Database, Statement, Transaction, param
from premblyd.store.tables import Delivery

RESUMED_MS = 0  # the end of one that was resumed: it has ended, also if the clock is set back


def is_in_force(now_ms: Any) -> Any:
    """Return the condition on Pause that it has not ended."""
    return Pause.until_ms.is_null() | (Pause.until_ms > now_ms)


def has_lasted_until(at_ms: Any) -> Any:
    """Return the condition on Pause that it has not ended before."""
    return is_in_force(at_ms) | (Pause.since_ms > at_ms)


_FORGET_OVER = Statement(Pause.delete().where(Pause.until_ms <= param("now_ms")))
_ABOUT = {Pause.until_ms: param("until_ms"), Pause.reason: param("reason")}
_BEGIN = Statement(
    Pause.insert(
        {Pause.action: param("action"), Pause.since_ms: param("since_ms"), **_ABOUT}
    ).on_conflict(conflict_target=[Pause.action], update=_ABOUT)
)
_END = Statement(
    Pause.update(until_ms=RESUMED_MS, since_ms=param("now_ms")).where(
        Pause.action == param("action"), is_in_force(param("now_ms"))
    )
)


MAX_REASON = 200  # characters: it is read beside the action, by everybody who may read the record


def pause(
    actor: str, action: str, now_ms: int, until_ms: int | None, reason: str | None
) -> Change[None]:
    """Stop starting an action's hooks on all hosts: until then, or until `resume`."""

    def pause(transaction: Transaction) -> None:
        transaction.change(_FORGET_OVER, now_ms=now_ms)  # one that begins anew has lasted since now
        about = {"action": action, "until_ms": until_ms, "reason": reason}
        transaction.change(_BEGIN, since_ms=now_ms, **about)
        until = "" if until_ms is None else f" until {times.for_people(until_ms)} UTC"
        note = f"{action}{until}" + (f": {reason}" if reason else "")
        write_down(transaction, actor, "pause", now_ms, note)

    return pause


def resume(actor: str, action: str, now_ms: int) -> Change[bool]:
    """Start an action's hooks again. False: it was not paused."""

    def resume(transaction: Transaction) -> bool:
        was_paused = transaction.change(_END, action=action, now_ms=now_ms) > 0
        if was_paused:
            write_down(transaction, actor, "resume", now_ms, action)
        return was_paused

    return resume


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
