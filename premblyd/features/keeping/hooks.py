"""What keeping does on the way of a webhook."""

from premblyd.features.keeping import erased

WITHHELD = (erased.is_erased,)
