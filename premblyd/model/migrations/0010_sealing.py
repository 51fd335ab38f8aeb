"""The keys of events whose values are sealed, and by which data keys the hosts open them."""

from premblyd.model.history import add_to_event, run

# Who seals raises the floor: the hooks of an older daemon would get what is sealed.
compatible = True

TABLES = """
CREATE TABLE event_key (
    id INTEGER PRIMARY KEY,
    data_key TEXT NOT NULL,
    wrapped BLOB NOT NULL
);
CREATE INDEX event_key_data_key ON event_key (data_key, id);
ALTER TABLE host ADD COLUMN data_keys TEXT;
"""


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    add_to_event(db, "session_digest TEXT")
    run(db, TABLES)
