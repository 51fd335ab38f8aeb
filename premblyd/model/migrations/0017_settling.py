"""When Prembly was asked about what is awaited, in which order it is, and which events have no
result."""

from premblyd.model.history import is_sqlite

compatible = True
atomic = False  # CREATE INDEX CONCURRENTLY; what an interrupted one left behind goes first

COLUMNS = ("asked_at_ms", "answered_at_ms", "known_at_ms")
INDEXES = {
    "event_without_result": (
        "event (received_at_ms) WHERE COALESCE(outcome, '') NOT IN ('verified', 'not_verified')"
    ),
    "awaited_turn": (
        "awaited ((known_at_ms IS NULL), (COALESCE(asked_at_ms, 0)), created_at_ms DESC, due_at_ms)"
        " WHERE due_at_ms IS NOT NULL"
    ),
}


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    there = {column.name for column in db.get_columns("awaited")}
    kind = "INTEGER" if is_sqlite(db) else "BIGINT"
    for name in COLUMNS:
        if name not in there:
            db.execute_sql(f"ALTER TABLE awaited ADD COLUMN {name} {kind}")
    # Of what was given up before it is not known whether Prembly answered: nobody is told again.
    db.execute_sql("UPDATE awaited SET answered_at_ms = finished_at_ms WHERE state = 'given_up'")
    concurrently = "" if is_sqlite(db) else "CONCURRENTLY "
    for name, rows in INDEXES.items():
        db.execute_sql(f"DROP INDEX {concurrently}IF EXISTS {name}")
        db.execute_sql(f"CREATE INDEX {concurrently}{name} ON {rows}")
    db.execute_sql(f"DROP INDEX {concurrently}IF EXISTS event_unsettled")
