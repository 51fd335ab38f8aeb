"""What a claim finds in the queue: how many deliveries of each action may start here, which come
first, and whether it is their turn.

A claim keeps the webhooks that come in waiting, so it does no more than a part of what there is,
however much waits, of however many actions; the rest follows with the next claims. Rows that
another host has at this moment are left out, and so are those whose hook another host still runs:
none of them hides what is behind it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

from peewee import SQL, Case, Field, Select, fn

from premblyd.feature import added
from premblyd.queue import hooks
from premblyd.queue.arrivals import EVENT_COLUMNS
from premblyd.queue.end import close_open_attempt, may_end, release
from premblyd.queue.hooks import Turn
from premblyd.queue.jobs import SMALL_BYTES, Claimable, Due
from premblyd.queue.shares import Shares
from premblyd.store.engine import Lookup, Row, Statement, Transaction, param
from premblyd.store.states import State
from premblyd.store.tables import IS_AWAY, IS_LAST_ATTEMPT, Attempt, Delivery, Event, Host

NO_ACTION = "the action is no longer in the configuration"
NEVER_MS = 1 << 62
MAX_ACTIONS = 50  # that one claim looks at
# Deliveries of all actions together, which one claim decides about: each takes a few statements
# and up to two of PostgreSQL's advisory locks, which has room for some 6,000, for all hosts.
MAX_LOOKS = 100
MAX_EARLY = 4  # actions of the configuration, with which it is asked for their deliveries early
_PATIENCE_MS = 60_000  # with an action that no host of several has
_CONTENDED_MS = 20  # until a claim looks again for what another host's claim has at this moment


class Waiting(NamedTuple):
    """An action that has deliveries in the queue, and when its first one is due; of one that is
    held (HELD_UNTIL), when that ends."""

    name: str
    due_at_ms: int


class Queued:
    """The queue as a claim of `worker` finds it, with what it has found there: the deliveries that
    are `due`, whose turn it is; how many others are in nobody's way any more (`passed`); and at
    which of so many actions that have due ones it has looked.

    `running` are the worker's own, which no claim finds. By `shares` it is known how many more
    hooks of an action of `actions` may run here. `bookmarks`: where the last claim stopped among
    the deliveries of an action, if it has left some that another host decides about: they hide
    nothing from the next claim.
    """

    def __init__(
        self,
        transaction: Transaction,
        worker: str,
        actions: Mapping[str, Claimable],
        shares: Shares,
        running: Collection[int],
        now_ms: int,
        bookmarks: dict[str, Due],
    ) -> None:
        self._transaction = transaction
        self._worker = worker
        self._actions = actions
        self._running = frozenset(running)
        self._now_ms = now_ms
        self._shares = shares
        self._bookmarks = bookmarks
        self._waiting: list[Waiting] = []
        self.full: set[str] = set()  # actions that have deliveries, and no free slot
        self._contended: set[str] = set()  # and those of which another host decides at this moment
        self.due: list[Due] = []
        self.passed = 0
        self._events: list[Callable[[], list[Row]]] = []  # that were asked for early
        self.looked_at: Sequence[str] = ()
        self.action_count = 0

    def find(self, place: Callable[[str], int]) -> None:
        """Find what may run of the actions that wait, in the order that `place` gives them. End
        what is of no action that there is."""
        waiting = self._transaction.ask(waiting_actions(), worker=self._worker, now_ms=self._now_ms)
        is_asked_early = self._transaction.is_far and len(self._actions) <= MAX_EARLY
        asked = self._ask_early() if is_asked_early else {}
        self._waiting = [Waiting(*row) for row in waiting()]
        self._waiting.sort(key=lambda action: place(action.name))
        ready = [name for name, due_at_ms in self._waiting if self._is_ready(name, due_at_ms)]
        self.looked_at, self.action_count = ready[:MAX_ACTIONS], len(ready)
        asked |= self._ask_for_first([name for name in self.looked_at if name not in asked])
        looks_left = MAX_LOOKS
        for number, name in enumerate(self.looked_at):
            share = max(1, looks_left // (len(self.looked_at) - number))
            action = self._actions.get(name)
            if action is None:
                until_ms = self._ended_until_ms
                looks_left -= self._walk(name, share, self._end_orphan, until_ms=until_ms)
            elif action.takes_turns:
                slots = self._free_slots(name, action)
                looks_left -= self._walk(name, share, self._turn_of, slots=slots)
            else:
                looks_left -= self._take_first(name, action, share, asked.get(name))

    def _is_ready(self, name: str, due_at_ms: int) -> bool:
        """Return whether this claim may find something of an action."""
        if name not in self._actions:
            if any(name in names for names in self._actions_of_others):
                self.full.add(name)
                return False
            return due_at_ms <= self._ended_until_ms
        if not self._shares.free(name):
            self.full.add(name)
            return False
        return due_at_ms <= self._now_ms

    def _free_slots(self, name: str, action: Claimable) -> int:
        """Return how many more of the action's hooks may run here: its free slots, within what
        may run on all hosts. Those that are counted are all that run, as the action's name is
        locked until their number has changed."""
        slots = self._shares.free(name)
        if action.cluster is not None:
            if self._transaction.try_lock(f"concurrency {name}"):
                slots = min(slots, max(0, action.cluster - self._held(name)))
            else:
                self._contended.add(name)
                return 0
        if not slots:
            self.full.add(name)
        return slots

    def _held(self, name: str) -> int:
        """Return how many of the action's deliveries run. A claim gets those whose lease has run
        out, so they hold no slot any more."""
        rows = self._transaction.rows(HELD, action=name, worker=self._worker, now_ms=self._now_ms)
        return sum(bool(holds) or row_id in self._running for row_id, holds in rows)

    def _ask_early(self) -> dict[str, Callable[[], list[Row]]]:
        """Where the server is far and the actions are few, ask for what may run before it is known
        whether any waits, and for its events."""
        asked = self._ask_for_first([name for name in self._actions if self._shares.free(name)])
        for name in asked:
            first = self._first_due(name, self._shares.free(name))
            self._events.append(self._transaction.ask(_DUE_EVENTS, **first))
        return asked

    def event_rows(self, chosen: Sequence[Due]) -> dict[int, Row]:
        """Return the events of what was chosen, by the ids of the deliveries: EVENT_COLUMNS."""
        found = {row[0]: row[1:] for rows in self._events for row in rows()}
        if left := [each.id for each in chosen if each.id not in found]:
            found |= {row[0]: row[1:] for row in self._transaction.look_up(_EVENTS, left)}
        return found

    def _ask_for_first(self, names: Sequence[str]) -> dict[str, Callable[[], list[Row]]]:
        """Ask for what may run of these actions, all before any answer is read, as far as it is
        known how many. Return what reads it."""
        asked = {}
        looks_left = MAX_LOOKS
        for number, name in enumerate(names):
            action = self._actions.get(name)
            wanted = max(1, looks_left // (len(names) - number))
            if action is not None and not action.takes_turns and action.cluster is None:
                wanted = min(wanted, self._shares.free(name))
                asked[name] = self._transaction.ask(DUE, **self._first_due(name, wanted))
            looks_left -= wanted
        return asked

    def _first_due(self, action: str, wanted: int) -> dict[str, Any]:
        values = {"action": action, "now_ms": self._now_ms, "worker": self._worker}
        return values | {"limit": wanted}

    def _take_first(
        self, name: str, action: Claimable, share: int, asked: Callable[[], list[Row]] | None
    ) -> int:
        """Take the first due deliveries of the action for its free slots, or as were `asked` for.
        Return how many, of `share` at most."""
        wanted = min(self._free_slots(name, action), share)
        if not wanted:
            return 0
        rows = self._due(name, wanted) if asked is None else [Due(*row) for row in asked()]
        if any(row.id in self._running for row in rows):  # the clock was set, say
            rows = self._due(name, wanted + len(self._running))
        due = [row for row in rows if row.id not in self._running][:wanted]
        self.due += due
        return len(due)

    def _walk(
        self,
        action: str,
        share: int,
        decide: Callable[[Due], Turn],
        *,
        slots: int = 1,
        until_ms: int | None = None,
    ) -> int:
        """Decide about the action's due deliveries, one after the other, until so many `slots` are
        taken or `share` of them were looked at. What is not to run now is out of the way then.
        Return at how many it has looked."""
        looks = 0
        end = len(self.due) + slots
        last = self._bookmarks.pop(action, None)
        while len(self.due) < end and looks < share:
            size = share - looks
            page = self._due(action, size, after=last, until_ms=until_ms)
            passed_before = self.passed
            for row in page:
                if len(self.due) == end:
                    break
                last = row
                if row.id in self._running:
                    continue
                looks += 1
                match decide(row):
                    case Turn.NOW:
                        self.due.append(row)
                    case Turn.PASSED:
                        self.passed += 1
                    case Turn.UNKNOWN:
                        self._contended.add(action)
            if len(page) < size and self.passed == passed_before:
                break  # else others that waited for them may have become due
        if looks == share and last is not None and action in self._contended:
            self._bookmarks[action] = last
        return looks

    def _end_orphan(self, delivery: Due) -> Turn:
        """End a delivery whose action has left the configuration. Replay works when it returns."""
        if not may_end(self._transaction, delivery):
            return Turn.UNKNOWN
        if delivery.state == State.RUNNING:
            close_open_attempt(self._transaction, delivery.id, self._now_ms)
        release(self._transaction, delivery.id, State.DEAD, self._now_ms, NO_ACTION, delivery)
        return Turn.PASSED

    def _turn_of(self, delivery: Due) -> Turn:
        turns = (turn(delivery) for turn in self._turns)
        return next((turn for turn in turns if turn is not Turn.NOW), Turn.NOW)

    @cached_property
    def _turns(self) -> list[Callable[[Due], Turn]]:
        of = hooks.of(self._transaction)
        return [turn(self._transaction, self._now_ms) for turn in of.turn]

    @cached_property
    def _actions_of_others(self) -> list[set[str]]:
        """The names that each of the other hosts has in its configuration: of those that are away
        too, until somebody ends them (`premblyd hosts forget`)."""
        rows = self._transaction.rows(OTHER_HOSTS, worker=self._worker)
        return [set(actions.split("\n")) for (actions,) in rows]

    @property
    def _ended_until_ms(self) -> int:
        """Until when a delivery must have been due to end for want of its action: not while another
        host has that, as configurations change on one host after the other. Nor before a host whose
        configuration has changed had the time to say so."""
        return self._now_ms - (_PATIENCE_MS if self._actions_of_others else 0)

    def asking_next_due(self) -> Callable[[], int | None]:
        """Ask when the next delivery of an action is due that has a free slot, now that some have
        changed; return what reads it."""
        looked_at = frozenset(self.looked_at)
        times = [self._now_ms + _CONTENDED_MS] if self._contended else []
        asked = []
        for name, due_at_ms in self._waiting:
            if name in self.full or name in self._contended:
                continue
            if name in looked_at:
                first = {"action": name, "worker": self._worker}
                asked.append(self._transaction.ask(FIRST_DUE, **first))
            else:
                times.append(due_at_ms)

        def next_due_ms() -> int | None:
            found = [due_at_ms for rows in asked for (due_at_ms,) in rows()]
            return min((each for each in (*times, *found) if each is not None), default=None)

        return next_due_ms

    def _due(
        self, action: str, limit: int, *, after: Due | None = None, until_ms: int | None = None
    ) -> list[Due]:
        """Return the first due deliveries of an action, or the first behind `after`."""
        values = {
            "action": action,
            "now_ms": self._now_ms if until_ms is None else until_ms,
            "limit": limit,
            "worker": self._worker,
        }
        statement = DUE
        if after is not None:
            statement = DUE_BEHIND
            values |= {"after_ms": after.due_at_ms, "after_id": after.id}
        return [Due(*row) for row in self._transaction.rows(statement, **values)]


def past(at_ms: Field) -> Case:
    """Return a time of the past as it is now: `now_ms`, if the clock has been set back since."""
    return Case(None, [(at_ms > param("now_ms"), param("now_ms"))], at_ms)


_OWN = Host.alias()
IS_QUEUED = Delivery.due_at_ms.is_null(False)
# The others run what such a daemon has. It may not know it yet: that it can't say that it lives
# does not mean that it can't claim.
_IS_TAKEN_FOR_LOST = fn.EXISTS(
    Host.select(Host.id).where(Host.worker == param("worker"), Host.ended_at_ms.is_null(False))
)


@cache  # asked for once the features are imported
def waiting_actions() -> Statement:
    """Find the distinct actions in the queue, and when the first of each is due, by three index
    seeks each, however many deliveries wait. SELECT DISTINCT walks the whole index: 10 ms with
    100,000 waiting, on every claim. What holds an action (HELD_UNTIL) is read where that is
    found, so that no claim on any host gets anything of it once it is committed."""
    first = Delivery.select(fn.MIN(Delivery.action)).where(IS_QUEUED)
    waiting = first.cte("waiting", recursive=True, columns=("name",))
    following = Delivery.select(fn.MIN(Delivery.action)).where(
        IS_QUEUED, Delivery.action > waiting.c.name
    )
    followings = Select((waiting,), (following,)).where(waiting.c.name.is_null(False))
    names = waiting.union_all(followings)
    first_due = Delivery.select(fn.MIN(Delivery.due_at_ms)).where(
        Delivery.action == names.c.name, IS_QUEUED
    )
    held_until = [held(names.c.name, param("now_ms")) for held in added("hooks", "HELD_UNTIL")]
    # Of one value alone SQLite knows no COALESCE.
    until_ms = fn.COALESCE(*held_until, first_due) if held_until else first_due
    return Statement(
        names.select_from(names.c.name, until_ms).where(
            names.c.name.is_null(False), ~_IS_TAKEN_FOR_LOST
        )
    )


# Another host's hook, which still runs there: a lease that has run out does not end it. `worker`:
# of the host that asks. (A subquery for one value: of an EXISTS about attempts, PostgreSQL would
# make a table of all attempts first.)
_WORKER = fn.COALESCE(Attempt.select(Attempt.worker).where(IS_LAST_ATTEMPT), "")
_RUNS_ELSEWHERE = (Delivery.state == State.RUNNING) & fn.EXISTS(
    Host.select(Host.id).where(
        Host.worker == _WORKER, Host.worker != param("worker"), Host.ended_at_ms.is_null()
    )
)
# Not `attempt_count`: by hand somebody may set that back, and an index that refuses one attempt
# would stop all hooks.
_NEWEST_NUMBER = fn.COALESCE(
    Attempt.select(fn.MAX(Attempt.number)).where(Attempt.delivery == Delivery.id), 0
)
_DUE = (
    Delivery.select(
        Delivery.due_at_ms,
        Delivery.id,
        Delivery.action,
        Delivery.state,
        _NEWEST_NUMBER,
        Delivery.attempts_left,
        next(added("tables", "GROUP"), SQL("NULL")),
        # SQLite and PostgreSQL know a blob's length without reading it.
        fn.COALESCE(Event.select(fn.LENGTH(Event.body)).where(Event.id == Delivery.event), 0),
    )
    .where(
        Delivery.action == param("action"), Delivery.due_at_ms <= param("now_ms"), ~_RUNS_ELSEWHERE
    )
    .order_by(Delivery.due_at_ms, Delivery.id)
    .limit(param("limit"))
)
DUE = Statement(_DUE, locks=True)
_EVENTS = Lookup(
    Delivery.select(Delivery.id, *(getattr(Event, name) for name in EVENT_COLUMNS)).join(Event),
    Delivery.id,
)
_DUE_EVENTS = Statement(
    _EVENTS.query.where(
        Delivery.id.in_(_DUE.select(Delivery.id)),
        fn.COALESCE(fn.LENGTH(Event.body), 0) <= SMALL_BYTES,
    )
)
DUE_BEHIND = Statement(
    _DUE.where(
        Delivery.due_at_ms >= param("after_ms"),
        (Delivery.due_at_ms > param("after_ms")) | (Delivery.id > param("after_id")),
    ),
    locks=True,
)
FIRST_DUE = Statement(
    Delivery.select(fn.MIN(Delivery.due_at_ms)).where(
        Delivery.action == param("action"), IS_QUEUED, ~_RUNS_ELSEWHERE
    )
)
# Of an action, on all hosts, and whether its lease still counts.
HELD = Statement(
    Delivery.select(Delivery.id, (Delivery.due_at_ms > param("now_ms")) | _RUNS_ELSEWHERE).where(
        Delivery.state == State.RUNNING, Delivery.action == param("action")
    )
)
# The actions of the other daemons, and of hosts that are away and may come back.
OTHER_HOSTS = Statement(
    Host.select(Host.actions).where(
        (Host.ended.is_null() & (Host.worker != param("worker")))
        | (IS_AWAY & Host.name.not_in(_OWN.select(_OWN.name).where(_OWN.worker == param("worker"))))
    )
)
