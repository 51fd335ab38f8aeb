"""The queue's statements, each built once."""

from dataclasses import fields

from peewee import Query, Select, fn

from premblyd.engines.engine import Statement, insert, param, update
from premblyd.model.states import BROKEN, IS_BROKEN, State
from premblyd.model.tables import IS_AWAY, IS_LAST_ATTEMPT, Attempt, Delivery, Event, Host
from premblyd.prembly.payload import StoredEvent, Verdict

VERDICT_COLUMNS = tuple(field.name for field in fields(Verdict))
EVENT_COLUMNS = (
    *(field.name for field in fields(StoredEvent) if field.name != "verdict"),
    *VERDICT_COLUMNS,
)

_OWN = Host.alias()
_IS_QUEUED = Delivery.due_at_ms.is_null(False)


def _waiting_actions() -> Query:
    """Find the distinct actions in the queue, and when the first of each is due, by two index seeks
    each, however many deliveries wait. SELECT DISTINCT walks the whole index: 10 ms with 100,000
    waiting, on every claim."""
    first = Delivery.select(fn.MIN(Delivery.action)).where(_IS_QUEUED)
    waiting = first.cte("waiting", recursive=True, columns=("name",))
    following = Delivery.select(fn.MIN(Delivery.action)).where(
        _IS_QUEUED, Delivery.action > waiting.c.name
    )
    followings = Select((waiting,), (following,)).where(waiting.c.name.is_null(False))
    names = waiting.union_all(followings)
    first_due = Delivery.select(fn.MIN(Delivery.due_at_ms)).where(
        Delivery.action == names.c.name, _IS_QUEUED
    )
    return names.select_from(names.c.name, first_due).where(
        names.c.name.is_null(False), ~_IS_TAKEN_FOR_LOST
    )


# The others run what such a daemon has. It may not know it yet: that it can't say that it lives
# does not mean that it can't claim.
_IS_TAKEN_FOR_LOST = fn.EXISTS(
    Host.select(Host.id).where(Host.worker == param("worker"), Host.ended_at_ms.is_null(False))
)
WAITING_ACTIONS = Statement(_waiting_actions())
RUNNING = Statement(
    Delivery.select(Delivery.id, Delivery.attempts_left).where(Delivery.state == State.RUNNING)
)
# Of a worker, by the attempts that it has open.
RUNNING_OF = Statement(
    Delivery.select(Delivery.id, Delivery.attempts_left)
    .join(Attempt, on=IS_LAST_ATTEMPT)
    .where(Delivery.state == State.RUNNING, Attempt.worker == param("worker"))
)
# Another host's hook, which still runs there: a lease that has run out does not end it. `worker`:
# of the host that asks. (A subquery for one value: of an EXISTS about attempts, PostgreSQL would
# make a table of all attempts first.)
_WORKER = fn.COALESCE(
    Attempt.select(Attempt.worker).where(IS_LAST_ATTEMPT),
    "",
)
_RUNS_ELSEWHERE = (Delivery.state == State.RUNNING) & fn.EXISTS(
    Host.select(Host.id).where(
        Host.worker == _WORKER, Host.worker != param("worker"), Host.ended_at_ms.is_null()
    )
)
_DUE = (
    Delivery.select(
        Delivery.due_at_ms,
        Delivery.id,
        Delivery.action,
        Delivery.state,
        Delivery.attempt_count,
        Delivery.attempts_left,
        Delivery.confirmed_at_ms,
        Delivery.order_key,
        # SQLite and PostgreSQL know a blob's length without reading it.
        fn.COALESCE(Event.select(fn.LENGTH(Event.body)).where(Event.id == Delivery.event), 0),
        BROKEN,
    )
    .where(
        Delivery.action == param("action"),
        Delivery.due_at_ms <= param("now_ms"),
        ~_RUNS_ELSEWHERE,
    )
    .order_by(Delivery.due_at_ms, Delivery.id)
    .limit(param("limit"))
)
DUE = Statement(_DUE, locks=True)
DUE_BEHIND = Statement(
    _DUE.where(
        Delivery.due_at_ms >= param("after_ms"),
        (Delivery.due_at_ms > param("after_ms")) | (Delivery.id > param("after_id")),
    ),
    locks=True,
)
# Of an action, on all hosts, and whether its lease still counts.
HELD = Statement(
    Delivery.select(Delivery.id, (Delivery.due_at_ms > param("now_ms")) | _RUNS_ELSEWHERE).where(
        Delivery.state == State.RUNNING, Delivery.action == param("action")
    )
)
FIRST_DUE = Statement(
    Delivery.select(fn.MIN(Delivery.due_at_ms)).where(
        Delivery.action == param("action"), _IS_QUEUED, ~_RUNS_ELSEWHERE
    )
)
START_DELIVERY = Statement(
    Delivery.update(
        state=State.RUNNING,
        due_at_ms=param("due_at_ms"),
        attempt_count=Delivery.attempt_count + 1,
        attempts_left=Delivery.attempts_left - param("cost"),
    ).where(Delivery.id == param("id"))
)
EVENT = Statement(
    Delivery.select(*(getattr(Event, name) for name in EVENT_COLUMNS))
    .join(Event)
    .where(Delivery.id == param("id"))
)
OPEN_ATTEMPT = insert(
    Attempt,
    "delivery_id",
    "number",
    "worker",
    "action_digest",
    "started_at_ms",
    "claim_token",
    if_unique=True,
)
_IS_CLAIM = (Attempt.id == param("attempt_id")) & (Attempt.claim_token == param("claim_token"))
CLOSE_ATTEMPT = update(
    Attempt,
    "finished_at_ms",
    "outcome",
    "exit_code",
    "http_status",
    "error",
    "output",
    "output_truncated",
    where=_IS_CLAIM,
)
# An attempt that has ended so already.
REPORTED = Statement(
    Attempt.select(Attempt.id).where(
        _IS_CLAIM,
        Attempt.finished_at_ms == param("finished_at_ms"),
        Attempt.outcome == param("outcome"),
    )
)
CLOSE_OPEN_ATTEMPT = update(
    Attempt,
    "finished_at_ms",
    "outcome",
    "error",
    where=(Attempt.delivery == param("delivery_id")) & Attempt.outcome.is_null(),
)
# Nobody else has claimed or ended it since. No number tells that: after a failover to a standby
# that lacked the newest, the server gives the same ones again, for other events.
_IS_HELD = (
    (Delivery.id == param("id"))
    & (Delivery.state == State.RUNNING)
    & param("claim_token").in_(Attempt.select(Attempt.claim_token).where(IS_LAST_ATTEMPT))
)
HOLDS = Statement(Delivery.select(Delivery.id).where(_IS_HELD))
SHOW_LIFE = Statement(
    Host.update(beat_count=Host.beat_count + 1).where(
        Host.worker == param("worker"), Host.ended_at_ms.is_null()
    )
)
FINISH_DELIVERY = update(
    Delivery,
    "state",
    "due_at_ms",
    "finished_at_ms",
    "attempts_left",
    "last_error",
    where=_IS_HELD,
)
# Only now the attempt is spent: what comes before it is a question.
CONFIRM = Statement(
    Delivery.update(
        confirmed_at_ms=param("confirmed_at_ms"),
        confirmed_sha256=param("confirmed_sha256"),
        confirmed_facts=param("confirmed_facts"),
        confirmed_key=param("confirmed_key"),
        attempts_left=param("attempts_left"),
    ).where(_IS_HELD)
)
CONFIRMED_FACTS = Statement(
    Delivery.select(Delivery.confirmed_facts).where(Delivery.id == param("id"))
)
RELEASE = update(
    Delivery,
    "state",
    "due_at_ms",
    "finished_at_ms",
    "last_error",
    where=Delivery.id == param("id"),
)
# attempt_count is mended too, so that a replay can count on from there.
_DEAD = {
    "state": State.DEAD,
    "due_at_ms": None,
    "finished_at_ms": param("finished_at_ms"),
    "last_error": param("last_error"),
    "attempt_count": fn.COALESCE(
        Attempt.select(fn.MAX(Attempt.number)).where(Attempt.delivery == param("id")), 0
    ),
}
END_UNUSABLE = Statement(Delivery.update(**_DEAD).where(Delivery.id == param("id")))
END_BROKEN = Statement(
    Delivery.update(
        **_DEAD,
        attempts_left=0,
        order_key=None,
        order_place=None,
        waits_for_id=None,
        holds_order=False,
    ).where(Delivery.id == param("id"))
)
# Of all that is not over, or stands where only that may: by an index each.
_IDS = Delivery.select(Delivery.id)
_NOT_OVER = (
    _IDS.where(Delivery.state.in_([State.PENDING, State.RUNNING]))
    | _IDS.where(_IS_QUEUED)
    | _IDS.where(Delivery.waits_for_id.is_null(False))
)
BROKEN_OF = Statement(
    Delivery.select(Delivery.id, BROKEN).where(Delivery.id == param("id"), IS_BROKEN)
)
ALL_BROKEN = Statement(
    Delivery.select(Delivery.id, BROKEN).where(Delivery.id.in_(_NOT_OVER), IS_BROKEN)
)
# Reads every row of the queue: only for a queue that was damaged by hand.
QUEUED_ACTIONS = Statement(Delivery.select(Delivery.id, Delivery.action).where(_IS_QUEUED))
REFUND_ATTEMPT = Statement(
    Delivery.update(attempts_left=Delivery.attempts_left + 1).where(Delivery.id == param("id"))
)
SHIFT = Statement(
    Delivery.update(due_at_ms=Delivery.due_at_ms + param("by_ms")).where(
        _IS_QUEUED,
        Delivery.created_at_ms < param("before_ms"),
        ~IS_BROKEN,  # else the whole UPDATE would fail
    )
)
# The actions of the other daemons, and of hosts that are away and may come back.
OTHER_HOSTS = Statement(
    Host.select(Host.actions).where(
        (Host.ended.is_null() & (Host.worker != param("worker")))
        | (IS_AWAY & Host.name.not_in(_OWN.select(_OWN.name).where(_OWN.worker == param("worker"))))
    )
)
