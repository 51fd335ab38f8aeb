"""What hooks with `once` run for. And the trigger that makes due, when a delivery ends, what waited
behind it by `order`: the database runs it in the same transaction, whoever ends it."""

from premblyd.store.columns import DIGEST, PLAIN, Kept, Reference, Seen, Text
from premblyd.store.table import Table
from premblyd.store.tables import Delivery


class OnceRun(Table):
    """What the hook of a delivery runs once for, see oncekeys.py. A deleted delivery leaves its key
    if it had succeeded."""

    kept = Kept.PERMANENT
    exported_as = "once_runs"
    delivery = Reference(
        Delivery,
        column_name="delivery_id",
        unique=True,
        null=True,
        is_about=False,
        on_delete="CASCADE",
    )
    action = Text(PLAIN)
    # Of the one that runs or has succeeded.
    once_key = Text(DIGEST, kept=Kept.PERMANENT, null=True)
    # By the names in Prembly's answer: see queue/names.py. Of an erased event: by its reference.
    confirmed_key = Text(DIGEST, kept=Kept.PERMANENT, seen=Seen.NOWHERE, null=True)

    indexes = ("UNIQUE key (once_key, action) WHERE once_key IS NOT NULL",)


TABLES = (OnceRun,)
VIEWS = (
    """CREATE VIEW once_log AS
SELECT delivery_id, delivery.event_id, once_run.action, delivery.state, once_key, confirmed_key
FROM once_run LEFT JOIN delivery ON delivery.id = delivery_id""",
)

_IS_OVER = """NEW.order_key IS NOT NULL AND OLD.state <> NEW.state
AND (NEW.state IN ('succeeded', 'cancelled', 'skipped')
     OR (NEW.state = 'dead' AND NOT NEW.blocks_order))"""
_EARLIER = """(
        SELECT id FROM delivery WHERE id = OLD.waits_for_id
        AND (state IN ('pending', 'running') OR (state = 'dead' AND blocks_order))
    )"""
# If it has waited itself, the one behind it waits for what it has waited for.
_RELEASE = f"""UPDATE delivery
    SET waits_for_id = {_EARLIER},
        due_at_ms = CASE WHEN {_EARLIER} IS NULL
            THEN COALESCE(NEW.finished_at_ms, created_at_ms) END
    WHERE waits_for_id = NEW.id AND state = 'pending';"""

IN_SQLITE = (
    f"""CREATE TRIGGER order_released AFTER UPDATE OF state ON delivery WHEN {_IS_OVER}
BEGIN
    {_RELEASE}
END""",
)
# The lock is that of order.py, by its name: who adds to the order, or ends another one of it, does
# so before this or sees it. UPDATE reads what others have committed by then.
IN_POSTGRESQL = (
    f"""CREATE FUNCTION release_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(lock_number('order ' || NEW.order_key));
    {_RELEASE}
    RETURN NULL;
END $$""",
    f"""CREATE TRIGGER order_released AFTER UPDATE OF state ON delivery FOR EACH ROW
WHEN ({_IS_OVER}) EXECUTE FUNCTION release_order()""",
)
