"""Indexes by which what an event left in other tables is found."""

from premblyd.model.history import is_sqlite

compatible = True
atomic = False  # CREATE INDEX CONCURRENTLY; what an interrupted one left behind goes first

INDEXES = {
    "delivery_ran_instead": "delivery (ran_instead_id) WHERE ran_instead_id IS NOT NULL",
    "inquiry_stored_event": "inquiry (stored_event_id) WHERE stored_event_id IS NOT NULL",
    "inquiry_without_event": "inquiry (reference) WHERE event_id IS NULL AND reference IS NOT NULL",
    "awaited_settled_by": "awaited (settled_by_id) WHERE settled_by_id IS NOT NULL",
    "operator_action_event": "operator_action (event_id) WHERE event_id IS NOT NULL",
    "operator_action_delivery": "operator_action (delivery_id) WHERE delivery_id IS NOT NULL",
    "event_session": "event (session_id) WHERE session_id IS NOT NULL",
    "event_closed": "event (closed_at_ms) WHERE closed_at_ms IS NOT NULL",
    "inquiry_of_nothing": ("inquiry (reference) WHERE event_id IS NULL AND delivery_id IS NULL"),
    "operator_action_note": (
        "operator_action (at_ms, id)"
        " WHERE note IS NOT NULL AND event_id IS NULL AND delivery_id IS NULL"
    ),
    "operator_action_done": "operator_action (action, at_ms)",
    "event_erasure": "event (erasure_id) WHERE erasure_id IS NOT NULL",
    "event_erased_name": "event (erased_name) WHERE erased_name IS NOT NULL",
}


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    for name, rows in INDEXES.items():
        if is_sqlite(db):
            db.execute_sql(f"CREATE INDEX IF NOT EXISTS {name} ON {rows}")
        else:
            db.execute_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            db.execute_sql(f"CREATE INDEX CONCURRENTLY {name} ON {rows}")
