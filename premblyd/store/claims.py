"""What a claim finds in the queue: how many of each action may run here, and which are first.

Rows that another host has at this moment are left out, and so are those whose hook another host
still runs: none of them hides what is behind it.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from premblyd.store import damage, queue_statements
from premblyd.store.damage import Due
from premblyd.store.engine import Transaction
from premblyd.store.jobs import Claimable
from premblyd.store.models import State
from premblyd.store.once import Turn, Turns

NO_ACTION = "the action is no longer in the configuration"
NEVER_MS = 1 << 62
MAX_PASSED = 200  # of an action in one claim, so that the transaction stays short
_PORTION = 50
_MAX_BURIALS = 500  # of one claim; the rest follows with the next
_PATIENCE_MS = 60_000  # with an action that no host of several has
_RESTART_MS = 600_000  # for which a host that has stopped may be away, with actions of its own
_CONTENDED_MS = 20  # until a claim looks again for what another host's claim has at this moment


class InTurn(NamedTuple):
    """Due deliveries whose turn it is, and how many others, of actions with `once`, are not in
    their way any more."""

    due: list[Due]
    passed: int


class Queued:
    """The queue as a claim of `worker` finds it, whose own deliveries that run are `running`."""

    def __init__(
        self, transaction: Transaction, worker: str, running: Collection[int], now_ms: int
    ) -> None:
        self._transaction = transaction
        self._worker = worker
        self._running = frozenset(running)
        self._now_ms = now_ms
        self._full: set[str] = set()  # actions that have no free slot
        self._contended: set[str] = set()  # and those whose slots another host gives out

    def find(self, waiting: Iterable[str], actions: Mapping[str, Claimable]) -> InTurn:
        """Return what may run of the actions that are `waiting`, in the order in which it became
        due. End what is of none of `actions`."""
        due: list[Due] = []
        passed = 0
        turns = Turns(self._transaction, self._now_ms)
        for name in waiting:
            if name not in actions:
                self._bury(name)
                continue
            slots = self._free_slots(name, actions[name])
            if not actions[name].once:
                due += self._due_for_slots(name, slots)
            else:
                found = self._due_in_turn(turns, name, slots)
                due += found.due
                passed += found.passed
        due.sort(key=lambda row: (row.due_at_ms, row.id))
        return InTurn(due, passed)

    def _free_slots(self, name: str, action: Claimable) -> int:
        """Return how many more of the action's hooks may run here: its free slots, within what
        may run on all hosts. Those that are counted are all that run, as the action's name is
        locked until their number has changed."""
        slots = action.slots
        if slots and action.cluster is not None:
            if self._transaction.try_lock(f"concurrency {name}"):
                slots = min(slots, max(0, action.cluster - self._held(name)))
            else:
                self._contended.add(name)
                return 0
        if not slots:
            self._full.add(name)
        return slots

    def _held(self, name: str) -> int:
        """Return how many of the action's deliveries run. A claim gets those whose lease has run
        out, so they hold no slot any more."""
        rows = self._transaction.rows(
            queue_statements.HELD, action=name, worker=self._worker, now_ms=self._now_ms
        )
        return sum(bool(holds) or row_id in self._running for row_id, holds in rows)

    def _due_for_slots(self, action: str, slots: int) -> list[Due]:
        """Return the action's first due deliveries, at most one for each free slot, without those
        that run."""
        if not slots:
            return []
        rows = self._due(action, slots + len(self._running))
        return [row for row in rows if row.id not in self._running][:slots]

    def _due_in_turn(self, turns: Turns, action: str, slots: int) -> InTurn:
        """Return what `_due_for_slots` does, of an action with `once`: it goes on behind deliveries
        whose turn it is not, and gets up to MAX_PASSED of them out of the way."""
        due: dict[int, Due] = {}
        passed = 0
        left: set[int] = set()
        while len(due) < slots and passed < MAX_PASSED:
            passed_before = passed
            seen = self._running | due.keys() | left
            found = self._due(action, len(seen) + _PORTION)
            rows = [row for row in found if row.id not in seen]
            for row in rows:
                if len(due) == slots or passed == MAX_PASSED:
                    break
                turn = turns.of(row)
                if turn is Turn.NOW:
                    due[row.id] = row
                elif turn is Turn.PASSED:
                    passed += 1
                else:
                    left.add(row.id)
                    self._contended.add(action)
            if len(rows) < _PORTION and passed == passed_before:
                break  # else, by `order`, others have become due
        return InTurn(list(due.values()), passed)

    def _bury(self, action: str) -> None:
        """End deliveries whose action has left the configuration, and those that wait for them by
        `order`. Replay works when it returns.

        Not while another host has it: configurations change on one host after the other. Nor
        before a host whose configuration has changed had the time to say so.
        """
        others = self._transaction.rows(
            queue_statements.OTHER_HOSTS,
            worker=self._worker,
            recent_ms=self._now_ms - _RESTART_MS,
        )
        if any(action in actions.split("\n") for (actions,) in others):
            self._full.add(action)
            return
        until_ms = self._now_ms - (_PATIENCE_MS if others else 0)
        buried = 0
        while buried < _MAX_BURIALS:
            found = self._due(action, _MAX_BURIALS, until_ms)
            due = [delivery for delivery in found if delivery.id not in self._running]
            for delivery in due:
                if delivery.state == State.RUNNING:
                    damage.close_open_attempt(self._transaction, delivery.id, self._now_ms)
                release(self._transaction, delivery.id, State.DEAD, self._now_ms, NO_ACTION)
            buried += len(due)
            if not any(delivery.order_key for delivery in due):
                break  # nothing else has become due by that

    def next_due_ms(self, actions: list[str]) -> int | None:
        """Return when the next delivery of `actions` is due that has a free slot."""
        free = [name for name in actions if name not in self._full | self._contended]
        times = [self._first_due_ms(free)]
        if self._contended:
            times.append(self._now_ms + _CONTENDED_MS)
        return min((time_ms for time_ms in times if time_ms is not None), default=None)

    def _first_due_ms(self, actions: list[str]) -> int | None:
        times: list[int] = []
        for action in actions:
            row = self._transaction.row(
                queue_statements.FIRST_DUE, action=action, worker=self._worker
            )
            time_ms = row[0] if row else None
            if isinstance(time_ms, int | float):
                times.append(int(min(max(time_ms, 0), NEVER_MS)))  # infinite ones too
            elif time_ms is not None:
                # Texts and blobs are above every number, so none of these would ever be due.
                rows = self._transaction.rows(queue_statements.QUEUED_OF, action=action)
                never_due = [number for (number,) in rows]
                damage.end_unusable(self._transaction, never_due, damage.DUE_CHANGED, self._now_ms)
        return min(times, default=None)

    def _due(self, action: str, limit: int, until_ms: int | None = None) -> list[Due]:
        rows = self._transaction.rows(
            queue_statements.DUE,
            action=action,
            now_ms=self._now_ms if until_ms is None else until_ms,
            limit=limit,
            worker=self._worker,
        )
        return [Due(*row) for row in rows]


def release(
    transaction: Transaction, delivery_id: int, state: State, now_ms: int, error: str
) -> None:
    """Let a delivery go that runs: it is due now, or has ended."""
    pending = state is State.PENDING
    transaction.change(
        queue_statements.RELEASE,
        id=delivery_id,
        state=state,
        due_at_ms=now_ms if pending else None,
        finished_at_ms=None if pending else now_ms,
        last_error=error,
    )
