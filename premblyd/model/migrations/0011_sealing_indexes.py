"""The index by which the events of a session are found whose values are sealed."""

from premblyd.model.history import is_sqlite

compatible = True
atomic = False  # CREATE INDEX CONCURRENTLY; what an interrupted one left behind goes first

NAME = "event_session_digest"
ROWS = "event (session_digest) WHERE session_digest IS NOT NULL"


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    if is_sqlite(db):
        db.execute_sql(f"CREATE INDEX IF NOT EXISTS {NAME} ON {ROWS}")
    else:
        db.execute_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        db.execute_sql(f"CREATE INDEX CONCURRENTLY {NAME} ON {ROWS}")
