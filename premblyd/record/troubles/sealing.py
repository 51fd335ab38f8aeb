"""Trouble with encryption: what `premblyd rekey` would seal, or give to another data key."""

from collections.abc import Iterator

from peewee import fn

from premblyd.errors import CannotStartError
from premblyd.keep.rekeying import IS_CLEAR
from premblyd.model.tables import Event
from premblyd.record import queries
from premblyd.record.troubles.trouble import Item, Situation, trouble
from premblyd.seal.starting import data_keys

LOOKED_AT = 1000  # of the oldest events: `rekey` begins with them


@trouble()
def sealing(situation: Situation) -> Iterator[Item]:
    """Yield that events are stored in clear though `encryption` has a key, and that a data key of
    `old_keys` is needed still. Who may not read the key is told nothing of it."""
    try:
        vault = situation.settings.vault if situation.settings else None
    except CannotStartError:  # `check` says what to install; all else can be told still
        return
    if vault is None or vault.seals_with is None:
        return
    oldest = Event.select(Event.id).order_by(Event.id).limit(LOOKED_AT)
    first = Event.select(fn.MIN(Event.id)).where(Event.id.in_(oldest), IS_CLEAR)
    if queries.value(situation.database, first) is not None:
        yield Item(
            text="Events that came before `encryption` had a key are stored in clear.",
            remedy="`rekey` seals them while the daemon works.",
            command="sudo premblyd rekey",
            about="clear",
        )
    others = [each for each in situation.database.look(data_keys) if each != vault.seals_with]
    if others:
        yield Item(
            text=f"What is stored needs the data key {', '.join(others)} still, beside the one that"
            " seals.",
            remedy="`rekey` gives all to that one; then the other need not be kept.",
            command="sudo premblyd rekey",
            about="old key",
        )
