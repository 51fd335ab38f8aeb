"""An index of what Prembly contradicted, and by which password a session was begun."""

from premblyd.model.history import run

compatible = True

CHANGES = """
CREATE INDEX inquiry_contradicted ON inquiry (event_id) WHERE result = 'contradicted';
ALTER TABLE console_session ADD COLUMN password_sha256 TEXT;
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, CHANGES)
