"""What a reference and a user_ref are where pseudonyms stand for them, and whether they do."""

from premblyd.model.history import add_to_event, run

# Who seals names raises the floor: an older daemon would store them in clear.
compatible = True


def up(migrator, db):  # type: ignore[no-untyped-def]  # playhouse calls it
    add_to_event(db, "sealed_reference TEXT", "sealed_user_ref TEXT")
    run(db, "ALTER TABLE digest_key ADD COLUMN names TEXT;")
