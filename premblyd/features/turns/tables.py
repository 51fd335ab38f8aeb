"""Who stands in a line by `order`. And what hooks with `once` have run for, of which the record is
gone."""

from peewee import fn

from premblyd.store.columns import DIGEST, PLAIN, ZERO, Kept, Number, Reference, Text, Truth
from premblyd.store.states import State
from premblyd.store.table import Table
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


class GoneOnce(Table):
    """The key of a deleted delivery for which a hook with `once` has succeeded."""

    kept = Kept.PERMANENT
    action = Text(PLAIN)
    once_key = Text(DIGEST, kept=Kept.PERMANENT)
    delivery_id = Number(PLAIN)

    unique = ("once_key, action",)


TABLES = (Ordered, GoneOnce)

VIEWS = (
    """CREATE VIEW order_log AS
SELECT ordered.delivery_id, delivery.event_id, ordered.action, delivery.state, ordered.order_key,
       ordered.place, ordered.waits_for_id, ordered.blocks
FROM ordered JOIN delivery ON delivery.id = ordered.delivery_id""",
)
_OWN = Ordered.delivery == Delivery.id
GROUP = (Ordered.select(Ordered.order_key).where(_OWN),)
# (Counted: see features/keeping/cli_prune.py.)
_BLOCKS = Ordered.select(fn.COUNT(Ordered.id)).where(_OWN, Ordered.blocks) > 0
NEEDED = ((Delivery.state == State.DEAD) & _BLOCKS,)
