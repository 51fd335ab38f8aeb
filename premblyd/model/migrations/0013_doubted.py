"""An index of the doubted events, which are few."""

from premblyd.model.history import is_sqlite

compatible = True
atomic = False  # CREATE INDEX CONCURRENTLY; what an interrupted one left behind goes first

INDEX = "event_doubted ON event (received_at_ms) WHERE doubt != ''"


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    if is_sqlite(db):
        db.execute_sql(f"CREATE INDEX IF NOT EXISTS {INDEX}")
    else:
        db.execute_sql("DROP INDEX CONCURRENTLY IF EXISTS event_doubted")
        db.execute_sql(f"CREATE INDEX CONCURRENTLY {INDEX}")
