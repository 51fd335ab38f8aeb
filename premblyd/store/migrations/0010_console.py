"""An index of what Prembly contradicted."""

from premblyd.store.dialect import run

compatible = True

INDEX = """
CREATE INDEX inquiry_contradicted ON inquiry (event_id) WHERE result = 'contradicted';
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, INDEX)
