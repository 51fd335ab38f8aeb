"""The queue's statements, each built once."""

from dataclasses import fields

from peewee import JOIN, SQL, fn

from premblyd.prembly.webhook import StoredEvent
from premblyd.store.inbox import VERDICT_COLUMNS
from premblyd.store.models import Attempt, Delivery, Event
from premblyd.store.statements import insert, param, statement, update

EVENT_COLUMNS = (
    *(field.name for field in fields(StoredEvent) if field.name != "verdict"),
    *VERDICT_COLUMNS,
)

# The distinct actions in the queue by one index seek each, however many deliveries wait.
# Peewee's SELECT DISTINCT walks the whole index: 10 ms with 100,000 waiting, on every claim.
WAITING_ACTIONS = """
WITH RECURSIVE waiting (name) AS (
    SELECT min(action) FROM delivery WHERE due_at_ms IS NOT NULL
    UNION ALL
    SELECT (SELECT min(action) FROM delivery WHERE due_at_ms IS NOT NULL AND action > name)
    FROM waiting WHERE name IS NOT NULL
)
SELECT name FROM waiting WHERE name IS NOT NULL
"""
RUNNING = statement(
    Delivery.select(Event.key, Delivery.id, Delivery.attempt_count, Delivery.attempts_left)
    .join(Event, JOIN.LEFT_OUTER)  # somebody may have deleted it
    .where(Delivery.state == param("state"))
)
RUNS = statement(
    Attempt.select(Event.key, Delivery.id, Attempt.number)
    .join(Delivery)
    .join(Event)
    .where(Event.key == param("key"))
)
DUE = statement(
    Delivery.select(
        Delivery.due_at_ms,
        Delivery.id,
        Delivery.action,
        Delivery.state,
        Delivery.attempt_count,
        Delivery.attempts_left,
    )
    .where(Delivery.action == param("action"), Delivery.due_at_ms <= param("now_ms"))
    .order_by(Delivery.due_at_ms)
    .limit(param("limit"))
)
FIRST_DUE = statement(
    Delivery.select(fn.MIN(Delivery.due_at_ms)).where(
        Delivery.action == param("action"), Delivery.due_at_ms.is_null(False)
    )
)
# SQLite knows a blob's length without reading it.
BODY_BYTES = statement(
    Delivery.select(fn.LENGTH(Event.body)).join(Event).where(Delivery.id == param("id"))
)
START_DELIVERY = statement(
    Delivery.update(
        state=param("state"),
        due_at_ms=param("due_at_ms"),
        attempt_count=Delivery.attempt_count + SQL("1"),
        attempts_left=Delivery.attempts_left - SQL("1"),
    ).where(Delivery.id == param("id"))
)
EVENT = statement(
    Delivery.select(*(getattr(Event, name) for name in EVENT_COLUMNS))
    .join(Event)
    .where(Delivery.id == param("id"))
)
OPEN_ATTEMPT = insert(Attempt, "delivery_id", "number", "worker", "action_digest", "started_at_ms")
CLOSE_ATTEMPT = update(
    Attempt,
    *("finished_at_ms", "outcome", "exit_code", "http_status", "error", "output"),
    "output_truncated",
    where=Attempt.id == param("id"),
)
CLOSE_OPEN_ATTEMPT = update(
    Attempt,
    *("finished_at_ms", "outcome", "error"),
    where=(Attempt.delivery == param("delivery_id")) & Attempt.outcome.is_null(),
)
FINISH_DELIVERY = update(
    Delivery,
    *("state", "due_at_ms", "finished_at_ms", "attempts_left", "last_error"),
    where=(Delivery.id == param("id"))
    & (Delivery.state == param("running"))
    & (Delivery.attempt_count == param("attempt_count")),
)
RELEASE = update(
    Delivery,
    *("state", "due_at_ms", "finished_at_ms", "last_error"),
    where=Delivery.id == param("id"),
)
# attempt_count is mended too, so that a replay can count on from there.
END_UNUSABLE = statement(
    Delivery.update(
        state=param("state"),
        due_at_ms=SQL("NULL"),
        finished_at_ms=param("finished_at_ms"),
        last_error=param("last_error"),
        attempt_count=fn.COALESCE(
            Attempt.select(fn.MAX(Attempt.number)).where(Attempt.delivery == param("id")), SQL("0")
        ),
    ).where(Delivery.id == param("id"))
)
# Texts and blobs are above every number, so such a delivery would never be due.
NEVER_DUE = """
SELECT id FROM delivery WHERE due_at_ms IS NOT NULL AND action = :action AND due_at_ms >= ''
"""
# Walks the queue; for names that can't be bound, because they are no text or no UTF-8.
NOT_OF = """
SELECT id FROM delivery WHERE due_at_ms IS NOT NULL
    AND (typeof(action) <> 'text' OR action NOT IN (SELECT value FROM json_each(:names)))
"""
REFUND_ATTEMPT = statement(
    Delivery.update(attempts_left=Delivery.attempts_left + SQL("1")).where(
        Delivery.id == param("id")
    )
)
SHIFT = statement(
    Delivery.update(due_at_ms=Delivery.due_at_ms + param("by_ms")).where(
        Delivery.due_at_ms.is_null(False),
        Delivery.created_at_ms < param("before_ms"),
        # A row that breaks the table's CHECK would stop them all. The + is for the queue's index.
        SQL("+state IN ('pending', 'running')"),
    )
)
