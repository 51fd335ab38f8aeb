"""The trouble of worker processes: an action's accept nothing."""

from collections.abc import Iterator
from typing import Any

from peewee import fn

from premblyd.features.worker.tables import Halt
from premblyd.ground import times
from premblyd.record import queries
from premblyd.record.told import Item, Situation, Target, trouble
from premblyd.store.states import HaltReason
from premblyd.store.tables import Host

_HALTED = {
    HaltReason.NOT_FOUND: "its worker's program is not there, or is not executable",
    HaltReason.NOT_STARTED: "its worker's program can't be started",
    HaltReason.ENDED: "its worker's program ends before it is ready",
    HaltReason.NOT_READY: "its worker's program is not ready within `start_timeout`",
    HaltReason.OTHER_VERSION: "its worker's program does not say `ready 1` first",
    HaltReason.ABORTED: "each of its worker processes has said `abort`",
}
_GO_ON = {
    HaltReason.ABORTED: "Fix what they need, then reload the configuration (`systemctl reload"
    " premblyd`), which restarts them."
}


@trouble()
def halted(situation: Situation) -> Iterator[Item]:
    """Yield actions with worker processes that take nothing, on hosts that are at work."""
    for action, host, reason, since_ms in _halts(situation):
        where = f" on {host}" if situation.path is None else ""
        yield Item(
            text=f"{action} has run nothing{where} since {times.for_people(since_ms)} UTC:"
            f" {_HALTED.get(reason, 'its worker processes accept nothing')}.",
            remedy=_GO_ON.get(
                reason,
                f"Fix the program: `premblyd try {action} FILE` shows what it prints. It is"
                " restarted until it works.",
            )
            + " Waiting deliveries use up no attempts.",
            command="sudo journalctl -u premblyd -n 50",
            target=Target(page="deliveries", state="pending", action=action),
            about=f"{action}{where}",
        )


def _halts(situation: Situation) -> list[tuple[Any, ...]]:
    query = (
        Halt.select(Halt.action, Host.name, Halt.reason, fn.MIN(Halt.since_ms))
        .join(Host, on=(Host.worker == Halt.worker))
        .where(Host.ended.is_null())
        .group_by(Halt.action, Host.name, Halt.reason)
        .order_by(Halt.action, Host.name, Halt.reason)
    )
    return queries.tuples(situation.database, query)


def actions(situation: Situation) -> set[str]:
    """Return the actions that `halted` reports, with the reason."""
    return {action for action, *_ in _halts(situation)}


TROUBLES = (halted,)
NOT_LATE = (actions,)
