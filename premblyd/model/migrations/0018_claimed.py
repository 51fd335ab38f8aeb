"""Which names of verifications Prembly's answers gave to a second one."""

from premblyd.model.history import run

compatible = True

COLUMNS = """
ALTER TABLE verification_name ADD COLUMN claimed_at_ms INTEGER;
CREATE INDEX verification_name_claimed ON verification_name (claimed_at_ms)
    WHERE claimed_at_ms IS NOT NULL;
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, COLUMNS)
