"""Replays of many: one row for all of it, and each delivery's as a part of that."""

from premblyd.model.history import run

compatible = True

COLUMNS = """
ALTER TABLE operator_action ADD COLUMN part_of_id INTEGER;
CREATE INDEX operator_action_whole ON operator_action (id) WHERE part_of_id IS NULL;
CREATE INDEX operator_action_part ON operator_action (part_of_id) WHERE part_of_id IS NOT NULL;
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    run(db, COLUMNS)
