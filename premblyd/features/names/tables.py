"""The names of verifications that Prembly gives several."""

from premblyd.store.columns import PERSONAL, PLAIN, Kept, Moment, Table, Text


class VerificationName(Table):
    """A name of a verification that Prembly gives several: see names.py."""

    kept = Kept.IDENTITY
    # A reference in its one spelling, or a session's digest.
    name = Text(PERSONAL, kept=Kept.IDENTITY, unique=True)
    verification = Text(PERSONAL, kept=Kept.IDENTITY)  # the same for all its names: one of them
    at_ms = Moment(PLAIN)
    claimed_at_ms = Moment(PLAIN, null=True)  # when an answer about another one named it last

    indexes = (
        "verification (verification)",
        "claimed (claimed_at_ms) WHERE claimed_at_ms IS NOT NULL",
    )


TABLES = (VerificationName,)
