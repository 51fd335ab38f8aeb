"""Indexes of what is rare in large tables: what is doubted, spelled otherwise, contradicted, or a
part of a replay."""

from premblyd.model.history import is_sqlite

compatible = True
atomic = False  # CREATE INDEX CONCURRENTLY; what an interrupted one left behind goes first

INDEXES = {
    "event_doubted": "event (received_at_ms) WHERE doubt != ''",
    "event_reference_key": "event (reference_key) WHERE reference_key IS NOT NULL",
    "awaited_reference_key": "awaited (reference_key) WHERE reference_key IS NOT NULL",
    "inquiry_contradicted": "inquiry (event_id) WHERE result = 'contradicted'",
    "operator_action_whole": "operator_action (id) WHERE part_of_id IS NULL",
    "operator_action_part": "operator_action (part_of_id) WHERE part_of_id IS NOT NULL",
}


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    for name, rows in INDEXES.items():
        if is_sqlite(db):
            db.execute_sql(f"CREATE INDEX IF NOT EXISTS {name} ON {rows}")
        else:
            db.execute_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            db.execute_sql(f"CREATE INDEX CONCURRENTLY {name} ON {rows}")
