"""What Prembly's answer stated when it confirmed an event."""

from premblyd.store.dialect import run

compatible = True

COLUMNS = """
ALTER TABLE delivery ADD COLUMN confirmed_facts TEXT;
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, COLUMNS)
