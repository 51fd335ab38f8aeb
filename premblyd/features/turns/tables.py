"""What hooks with `once` have run for, of which the record is gone."""

from premblyd.store.columns import DIGEST, PLAIN, Kept, Number, Text
from premblyd.store.table import Table


class GoneOnce(Table):
    """The key of a deleted delivery for which a hook with `once` has succeeded."""

    kept = Kept.PERMANENT
    action = Text(PLAIN)
    once_key = Text(DIGEST, kept=Kept.PERMANENT)
    delivery_id = Number(PLAIN)

    unique = ("once_key, action",)


TABLES = (GoneOnce,)
