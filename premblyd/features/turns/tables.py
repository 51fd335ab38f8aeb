"""What hooks with `once` have run for, of which the record is gone. And the trigger that makes due,
when a delivery ends, what waited behind it by `order`: the database runs it in the same
transaction, whoever ends it."""

from premblyd.store.columns import DIGEST, PLAIN, Kept, Number, Text
from premblyd.store.table import Table


class GoneOnce(Table):
    """The key of a deleted delivery for which a hook with `once` has succeeded."""

    kept = Kept.PERMANENT
    action = Text(PLAIN)
    once_key = Text(DIGEST, kept=Kept.PERMANENT)
    delivery_id = Number(PLAIN)

    unique = ("once_key, action",)


TABLES = (GoneOnce,)

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
