"""What alerts have said."""

from premblyd.store.columns import PLAIN, Kept, Moment, Table, Text


class Alert(Table):
    """When an alert last reported a problem, until that ends; and that it could not be sent, until
    it is."""

    kept = Kept.UNTIL_ENDED
    name = Text(PLAIN)
    # The kind of trouble, and behind a space what of its kind it is, such as an action. Empty: the
    # alert could not be sent.
    kind = Text(PLAIN)
    at_ms = Moment(PLAIN)
    error = Text(PLAIN, null=True)  # of one that could not be sent, as `output`
    output = Text(PLAIN, null=True)  # what its hook printed

    unique = ("name, kind",)


TABLES = (Alert,)
