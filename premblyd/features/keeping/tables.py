"""The tables of `keep`: what is held, removed and erased."""

from enum import StrEnum

from premblyd.ground.privacy import Shape
from premblyd.store.columns import DIGEST, PERSONAL, PLAIN, Kept, Moment, Number, Seen, Table, Text


class Removed(StrEnum):
    """A class of data that `retention` deletes when its period has expired. Each class includes
    those before it, except `rejections`, which are no events."""

    BODY = "body"
    IDENTITY = "identity"
    RECORD = "record"
    REJECTIONS = "rejections"


class Hold(Table):
    """A legal hold: exempts a person, or a verification, from deletion until it ends."""

    kept = Kept.PERMANENT
    user_ref = Text(PERSONAL, kept=Kept.UNTIL_ENDED, shown=Shape.REFERENCE, null=True)
    # In its one spelling.
    reference = Text(PERSONAL, kept=Kept.UNTIL_ENDED, shown=Shape.REFERENCE, null=True)
    since_ms = Moment(PLAIN)
    until_ms = Moment(PLAIN, null=True)  # NULL: until somebody ends it
    actor = Text(PERSONAL, kept=Kept.PERMANENT, shown=Shape.PLAIN)
    reason = Text(PERSONAL, kept=Kept.UNTIL_ENDED, shown=Shape.PLAIN, null=True)
    ended_at_ms = Moment(PLAIN, null=True)
    ended_by = Text(PERSONAL, kept=Kept.PERMANENT, shown=Shape.PLAIN, null=True)

    indexes = (
        "user_ref (user_ref) WHERE ended_at_ms IS NULL AND user_ref IS NOT NULL",
        "reference (reference) WHERE ended_at_ms IS NULL AND reference IS NOT NULL",
    )


class Erasure(Table):
    """An erasure at a person's request: who did it, when and why, and how much."""

    kept = Kept.PERMANENT
    at_ms = Moment(PLAIN)
    actor = Text(PERSONAL, kept=Kept.PERMANENT, shown=Shape.PLAIN)
    reason = Text(PERSONAL, kept=Kept.PERMANENT, shown=Shape.PLAIN, null=True)
    found_by = Text(PLAIN)  # user_ref, reference or event
    # Keyed, of what was named.
    subject = Text(DIGEST, kept=Kept.PERMANENT, seen=Seen.NOWHERE, null=True)
    events = Number(PLAIN)
    cancelled = Number(PLAIN)  # deliveries that waited or were dead
    vacuumed_at_ms = Moment(PLAIN, null=True)  # NULL: bytes of it may remain in the file

    indexes = ("subject (subject)",)


class ToErase(Table):
    """An event of a person of many, who is erased in portions: until its portion is done."""

    kept = Kept.UNTIL_ENDED
    event_id = Number(PLAIN, unique=True)
    erasure_id = Number(PLAIN)

    indexes = ("erasure (erasure_id, id)",)


class ErasedName(Table):
    """A keyed digest of a reference or a session that was erased: what comes of it later is stored
    already erased."""

    kept = Kept.PERMANENT
    name = Text(DIGEST, kept=Kept.PERMANENT, unique=True)
    erasure_id = Number(PLAIN)


class ErasedEvent(Table):
    """An event that was erased, or stored so, and the erasure."""

    kept = Kept.RECORD
    event_id = Number(PLAIN, unique=True)
    erasure_id = Number(PLAIN)

    indexes = ("erasure (erasure_id)",)


class KeptFrom(Table):
    """When the periods of an event start that came while the clock was behind."""

    kept = Kept.RECORD
    event_id = Number(PLAIN, unique=True)
    at_ms = Moment(PLAIN)


class Removal(Table):
    """What `retention` removed on a day, of one class and by one period."""

    kept = Kept.PERMANENT
    day_ms = Moment(PLAIN)
    removed = Text(PLAIN)  # the class: body, identity, record, rejections
    period_ms = Number(PLAIN)
    count = Number(PLAIN)

    unique = ("day_ms, removed, period_ms",)


class Sweep(Table):
    """How far the removal of a class has come: a bookmark, see retention.py. To take it out is
    always safe."""

    kept = Kept.PERMANENT
    removed = Text(PLAIN, unique=True)
    at_ms = Moment(PLAIN)
    row_id = Number(PLAIN)


class GoneEvent(Table):
    """The key of a deleted event: the same webhook is still a duplicate."""

    kept = Kept.PERMANENT
    key = Text(DIGEST, kept=Kept.PERMANENT, unique=True)
    event_id = Number(PLAIN)


class ErasureFile(Table):
    """A file with erasures' lines, as a host's daemon has found it: see erasurelines.py."""

    kept = Kept.PERMANENT
    is_moved = False
    host = Text(PLAIN)
    file = Text(PLAIN)
    unknown = Number(PLAIN)  # lines in it that say more than the record
    error = Text(PLAIN, null=True)  # why it lacks erasures; NULL: it has them all


TABLES = (
    Hold,
    Erasure,
    ToErase,
    ErasedName,
    ErasedEvent,
    KeptFrom,
    Removal,
    Sweep,
    GoneEvent,
    ErasureFile,
)
