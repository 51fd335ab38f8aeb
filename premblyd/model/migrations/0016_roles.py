"""What each may do who signs in to the console."""

from premblyd.model.history import run

compatible = True  # an older daemon's console lets all of them do everything

COLUMNS = """
ALTER TABLE console_link ADD COLUMN role TEXT
    CHECK (role IN ('look', 'reveal', 'operate'));
ALTER TABLE console_session ADD COLUMN role TEXT
    CHECK (role IN ('look', 'reveal', 'operate'));
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, COLUMNS)
