"""Who stands in a line by `order`. And what hooks with `once` run for."""

from peewee import fn

from premblyd.store.columns import (
    DIGEST,
    PLAIN,
    ZERO,
    Kept,
    Number,
    Reference,
    Seen,
    Table,
    Text,
    Truth,
)
from premblyd.store.states import State
from premblyd.store.tables import Delivery

HELD_BY = "turns"  # what waits in a line


class Ordered(Table):
    """The place of a delivery in its line, see order.py, for as long as it stands there."""

    kept = Kept.RECORD
    delivery = Reference(Delivery, column_name="delivery_id", unique=True)
    action = Text(PLAIN)
    order_key = Text(DIGEST, kept=Kept.RECORD)
    place = Number(PLAIN)
    # Which must end before this one; no foreign key: SQLite checks it at each change.
    waits_for_id = Number(PLAIN, null=True)
    blocks = Truth(PLAIN, constraints=ZERO)  # whether those behind it wait when it is dead

    indexes = (
        "line (order_key, action, place)",
        "waits (waits_for_id) WHERE waits_for_id IS NOT NULL",
    )


class OnceRun(Table):
    """What the hook of a delivery runs once for, see once.py. A deleted delivery leaves its key
    if it had succeeded."""

    kept = Kept.PERMANENT
    exported_as = "once_runs"
    delivery = Reference(
        Delivery,
        column_name="delivery_id",
        unique=True,
        null=True,
        is_about=False,
        on_delete="CASCADE",
    )
    action = Text(PLAIN)
    # Of the one that runs or has succeeded.
    once_key = Text(DIGEST, kept=Kept.PERMANENT, null=True)
    # By the names in Prembly's answer: see features/names. Of an erased event: by its reference.
    confirmed_key = Text(DIGEST, kept=Kept.PERMANENT, seen=Seen.NOWHERE, null=True)

    indexes = ("UNIQUE key (once_key, action) WHERE once_key IS NOT NULL",)


TABLES = (Ordered, OnceRun)
VIEWS = (
    """CREATE VIEW order_log AS
SELECT ordered.delivery_id, delivery.event_id, ordered.action, delivery.state, ordered.order_key,
       ordered.place, ordered.waits_for_id, ordered.blocks
FROM ordered JOIN delivery ON delivery.id = ordered.delivery_id""",
    """CREATE VIEW once_log AS
SELECT once_run.delivery_id, delivery.event_id, once_run.action, delivery.state, once_run.once_key,
       once_run.confirmed_key
FROM once_run LEFT JOIN delivery ON delivery.id = once_run.delivery_id""",
)
_OWN = Ordered.delivery == Delivery.id
GROUP = (Ordered.select(Ordered.order_key).where(_OWN),)
# (Counted: of an EXISTS, PostgreSQL would make a table of all such rows first.)
_BLOCKS = Ordered.select(fn.COUNT(Ordered.id)).where(_OWN, Ordered.blocks) > 0
NEEDED = ((Delivery.state == State.DEAD) & _BLOCKS,)
